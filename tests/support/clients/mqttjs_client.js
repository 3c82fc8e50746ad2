// MQTT.js over WebSocket: the same as paho_client.py.
const mqtt = require("mqtt");
const [url, version, username, password] = process.argv.slice(2);

const client = mqtt.connect(url, {
  protocolVersion: Number(version),
  protocolId: version === "3" ? "MQIsdp" : "MQTT",
  clientId: `mqttjs-${version}`,
  username,
  password,
  reconnectPeriod: 0,
});
const messages = [];

function finish(refused) {
  console.log(JSON.stringify({ refused, messages: messages.sort() }));
  client.end(true, {}, () => process.exit(0));
}

client.on("error", (error) => finish([error.code]));
client.on("connect", () => {
  client.subscribe("#", { qos: 2 }, () => {
    for (const qos of [0, 1, 2]) client.publish(`echo/${qos}`, `héllo ${qos}`, { qos });
  });
});
client.on("message", (topic, payload, packet) => {
  messages.push([topic, payload.toString(), packet.qos, packet.retain]);
  if (messages.length === 4) finish([]);
});
setTimeout(() => finish(["timeout"]), 20000).unref();
