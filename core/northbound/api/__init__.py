"""The API: the live tree as MQTT over WebSocket and TCP, and HTTP beside it, for whoever may see it."""
