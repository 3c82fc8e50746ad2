"""aiomqtt over WebSocket: the same as ``paho_client.py``."""

import asyncio
import json
import sys
from urllib.parse import urlsplit

import aiomqtt

url, version, username, password = sys.argv[1:5]
parts = urlsplit(url)
PROTOCOLS = {"3": aiomqtt.ProtocolVersion.V31, "4": aiomqtt.ProtocolVersion.V311, "5": aiomqtt.ProtocolVersion.V5}


async def main():
    messages = []
    client = aiomqtt.Client(
        parts.hostname, parts.port, username=username, password=password, identifier=f"aiomqtt-{version}",
        protocol=PROTOCOLS[version], transport="websockets", websocket_path=parts.path,
    )  # fmt: skip
    try:
        async with client, asyncio.timeout(20):
            await client.subscribe("#", qos=2)
            for qos in (0, 1, 2):
                await client.publish(f"echo/{qos}", f"héllo {qos}", qos=qos)
            async for message in client.messages:
                messages.append([str(message.topic), message.payload.decode(), message.qos, message.retain])
                if len(messages) == 4:
                    break
    except aiomqtt.MqttCodeError as error:
        code = error.rc
        return {"refused": [getattr(code, "value", code)], "messages": []}
    return {"refused": [], "messages": sorted(messages)}


print(json.dumps(asyncio.run(main())))
