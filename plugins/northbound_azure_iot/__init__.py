"""The ``azure-iot`` connector: Azure IoT Hub."""
