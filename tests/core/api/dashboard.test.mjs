// The pure parts of the dashboard, run by `node --test`; test_api_dashboard.py runs this.
import assert from "node:assert/strict";
import { pathToFileURL } from "node:url";
import { test } from "node:test";

const folder = pathToFileURL(`${process.env.DASHBOARD}/`);
const load = (name) => import(new URL(name, folder));
const { Tree, isFilter, matches, unescapeLevel } = await load("tree.js");
const { History } = await load("history.js");
const { age, ago, brief, holds, rate, size } = await load("words.js");

const site = { root: "placeos", value: "string" };
const topic = (system, state, level = "_") => `placeos/org/state/bld/${level}/_/${system}/drv/Display/1/${state}`;
const payload = (value, time = 1) => JSON.stringify({ time, value: JSON.stringify(value) });
const metadata = (id, name) => [`placeos/org/metadata/${id}`, JSON.stringify({ name }), true, 0];

function tree(...systems) {
  const made = new Tree(site);
  for (const system of systems) made.put(topic(system, "power"), payload(true), true, 0);
  return made;
}

test("values are read in either form, times in either unit", () => {
  const made = tree();
  assert.equal(made.put(topic("s", "a"), payload({ x: [1] }, 5), true, 9).message.value.x[0], 1);
  assert.equal(made.put(topic("s", "a"), payload(1, 1700000000123), true, 9).message.time, 1700000000123);
  assert.equal(made.put(topic("s", "a"), payload(1, 1700000000), true, 9).message.time, 1700000000000);
  const raw = new Tree({ root: "placeos", value: "json" });
  assert.equal(raw.put(topic("s", "a"), '{"time":1,"value":"true"}', true, 9).message.value, "true");
  assert.equal(made.put("other/topic", "plain", false, 9).message.value, "plain");
  assert.equal(made.put(topic("s", "b"), '{"time":1,"value":"not json"}', true, 9).message.value, "not json");
});

test("what is cleared is gone, with what it alone held up", () => {
  const made = tree("s1", "s2");
  assert.equal(made.size, 2);
  assert.equal(made.put(topic("s1", "power"), "", true, 0), null);
  assert.equal(made.size, 1);
  assert.equal(made.find("placeos/org/state/bld/_/_/s1"), null);
  made.put("never/there", "", true, 0);
  made.put(topic("s2", "power"), "", true, 0);
  assert.equal(made.size, 0);
  assert.equal(made.root.children.size, 0);
});

test("a node may hold a value and topics below it", () => {
  const made = new Tree(site);
  made.put("a", "1", true, 0);
  made.put("a/b", "2", true, 0);
  made.put("a", "", true, 0);
  assert.equal(made.size, 1);
  assert.equal(made.find("a/b").message.value, 2);
});

test("names come from metadata and go with it", () => {
  const made = tree("s1");
  made.put(...metadata("s1", "Boardroom 7"));
  const node = made.find("placeos/org/state/bld/_/_/s1");
  assert.equal(made.label(node), "Boardroom 7");
  assert.deepEqual(made.path(made.find(topic("s1", "power"))), ["bld", "Boardroom 7", "drv", "Display", "1", "power"]);
  made.put("placeos/org/metadata/s1", "", true, 0);
  assert.equal(made.label(node), null);
});

test("a search finds whole words first, then all words", () => {
  const made = tree("s7", "s70", "s8");
  made.put(...metadata("s7", "Boardroom 7"));
  made.put(...metadata("s70", "Boardroom 70"));
  const found = (text) => made.search(text, 100).map((node) => node.topic);
  assert.deepEqual(found("boardroom 7"),
    ["placeos/org/state/bld/_/_/s7", topic("s7", "power"), "placeos/org/metadata/s7"]);
  assert.ok(found("boardr").includes(topic("s70", "power")));
  assert.deepEqual(found("power s8"), [topic("s8", "power")]);
  assert.deepEqual(found("+/+/state/+/+/+/s8/#"), [topic("s8", "power")]);
  assert.deepEqual(found("nothing of the kind"), []);
  assert.equal(made.search("display", 2).length, 2);
});

test("rows join what has one child, and open what is open", () => {
  const made = tree("s1", "s2");
  const [row] = made.rows(new Set());
  assert.equal(row.chain.map((node) => node.name).join("/"), "placeos/org/state/bld/_/_");
  const rows = made.rows(new Set([row.node]));
  assert.deepEqual(rows.map((one) => one.chain[0].name), ["placeos", "s1", "s2"]);
});

test("levels are in the order of people, what describes comes last", () => {
  const made = tree("s10", "s9");
  made.put(...metadata("a", "A"));
  made.put("$SYS/broker/uptime", "1", true, 0);
  assert.deepEqual(made.root.inOrder.map((node) => node.name), ["placeos", "$SYS"]);
  assert.deepEqual(made.find("placeos/org").inOrder.map((node) => node.name), ["state", "metadata"]);
  assert.deepEqual(made.find("placeos/org/state/bld/_/_").inOrder.map((node) => node.name), ["s9", "s10"]);
});

test("filters match as MQTT says", () => {
  const match = (filter, name) => matches(filter.split("/"), name.split("/"));
  for (const [filter, name] of [["#", "a/b"], ["a/#", "a"], ["a/+", "a/b"], ["+/+", "/a"], ["$SYS/#", "$SYS/x"]]) {
    assert.ok(match(filter, name), `${filter} ${name}`);
  }
  for (const [filter, name] of [["#", "$SYS/x"], ["+/x", "$SYS/x"], ["a/+", "a"], ["a", "a/b"], ["a/b", "a"]]) {
    assert.ok(!match(filter, name), `${filter} ${name}`);
  }
  assert.ok(isFilter("+/state/#"));
  assert.ok(!isFilter("c++ #1"));
});

test("levels that were escaped are shown as they were", () => {
  assert.equal(unescapeLevel("a%2Fb"), "a/b");
  assert.equal(unescapeLevel("%FF"), "%FF");
});

test("history is bounded and keeps no value twice", () => {
  const history = new History();
  const point = (n) => ({ time: n, value: n, payload: String(n) });
  for (let n = 0; n < 1000; n++) history.add("t", point(n));
  history.add("t", point(999));
  assert.equal(history.of("t").length, 240);
  assert.equal(history.of("t").at(-1).value, 999);
  for (let n = 0; n < 5000; n++) history.add(`t${n}`, point(n));
  assert.deepEqual(history.of("t"), []);
  assert.deepEqual(history.of("t4999").length, 1);
});

test("words for people", () => {
  assert.deepEqual([age(0.2), age(59), age(61), age(7200), age(200000), age(null)], ["now", "59 s", "1 min", "2 h", "2 d", "never"]);
  assert.deepEqual([ago(5), ago(0), ago(null)], ["5 s ago", "now", "never"]);
  assert.deepEqual([rate(0), rate(2.25), rate(12345)], ["0/s", "2.3/s", "12,345/s"]);
  assert.deepEqual([size(10), size(2048), size(3 * 1024 ** 3)], ["10 B", "2.0 KiB", "3.0 GiB"]);
  assert.equal(brief("x".repeat(500)).length, 200);
  const day = 86400000;
  assert.equal(holds({ name: "certificate", expires: 30 * day }, 0).level, "good");
  assert.equal(holds({ name: "certificate", expires: 3 * day }, 0).level, "warn");
  assert.equal(holds({ name: "token", expires: 3 * day, renewed: true }, 0).level, "good");
  assert.equal(holds({ name: "certificate", expires: 1 }, 2).level, "bad");
  assert.equal(holds({ name: "key", expires: null }, 0), null);
});
