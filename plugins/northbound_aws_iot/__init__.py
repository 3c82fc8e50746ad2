"""The ``aws-iot`` connector: AWS IoT Core."""
