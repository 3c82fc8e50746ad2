"""paho 2 publishing the same messages and waiting for every acknowledgement; runs in the peers' environment."""

from __future__ import annotations

import json
import pickle
import sys
import threading
import time
from pathlib import Path

import paho.mqtt.client as mqtt


def main() -> None:
    port, path = int(sys.argv[1]), Path(sys.argv[2])
    batch = pickle.loads(path.read_bytes())
    client = mqtt.Client(mqtt.CallbackAPIVersion.VERSION2, protocol=mqtt.MQTTv5)
    client.max_inflight_messages_set(20)
    client.max_queued_messages_set(0)
    left = len(batch)
    done = threading.Event()

    def on_publish(*_args: object) -> None:
        nonlocal left
        left -= 1
        if not left:
            done.set()

    client.on_publish = on_publish
    client.connect("127.0.0.1", port)
    client.loop_start()
    wall, cpu = time.perf_counter(), time.process_time()
    for topic, payload in batch:
        client.publish(topic, payload, qos=1, retain=True)
    done.wait(300)
    print(json.dumps({"seconds": time.perf_counter() - wall, "cpu": time.process_time() - cpu, "left": left}))
    client.disconnect()
    client.loop_stop()


main()
