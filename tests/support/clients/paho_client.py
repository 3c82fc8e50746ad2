"""Eclipse Paho for Python, 1.x or 2.x: connect, subscribe, publish at each QoS; say what came as one line of JSON."""

import json
import sys
import threading
from urllib.parse import urlsplit

import paho.mqtt.client as paho

url, version, username, password = sys.argv[1:5]
protocol = {"3": paho.MQTTv31, "4": paho.MQTTv311, "5": paho.MQTTv5}[version]
parts = urlsplit(url)
arguments = {"client_id": f"paho-{version}", "protocol": protocol}
if parts.scheme == "ws":
    arguments["transport"] = "websockets"
if hasattr(paho, "CallbackAPIVersion"):
    arguments["callback_api_version"] = paho.CallbackAPIVersion.VERSION1
client = paho.Client(**arguments)
if parts.scheme == "ws":
    client.ws_set_options(path=parts.path)
client.username_pw_set(username, password)
messages, done, refused = [], threading.Event(), []


def on_connect(client, _userdata, _flags, code, *_):
    number = getattr(code, "value", code)
    if number:
        refused.append(number)
        done.set()
    else:
        client.subscribe("#", qos=2)


def on_subscribe(client, *_):
    for qos in (0, 1, 2):
        client.publish(f"echo/{qos}", f"héllo {qos}", qos=qos)


def on_message(_client, _userdata, message):
    messages.append([message.topic, message.payload.decode(), message.qos, bool(message.retain)])
    if len(messages) == 4:
        done.set()


client.on_connect, client.on_subscribe, client.on_message = on_connect, on_subscribe, on_message
client.connect(parts.hostname, parts.port, keepalive=20)
client.loop_start()
done.wait(20)
client.disconnect()
client.loop_stop()
print(json.dumps({"refused": refused[:1], "messages": sorted(messages)}))
