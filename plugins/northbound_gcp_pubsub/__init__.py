"""The ``gcp-pubsub`` connector: Google Cloud Pub/Sub."""
