// Each connector: does its destination get what it should? And the sources, where it all comes from.

import { fill, h } from "./dom.js";
import { spark } from "./plot.js";
import { age, ago, count, holds, plural, rate, size } from "./words.js";

const STATES = {
  online: "good", connecting: "warn", draining: "warn", retrying: "bad", unauthorised: "bad", stopped: "bad",
};

export class Connectors {
  constructor(model) {
    this.model = model;
    this.element = h("div", { class: "page" });
  }

  shown() {
    this.numbers();
  }

  close() {}

  numbers() {
    const { status } = this.model.watch;
    if (!status) return fill(this.element, h("p", { class: "dim empty" }, "Asking the service…"));
    fill(this.element,
      h("h1", {}, "Connectors"),
      status.store.error ? h("p", { class: "problem", role: "alert" }, `The store: ${status.store.error}`) : null,
      h("div", { class: "cards" }, status.connectors.map((connector) => this.#connector(connector))),
      h("h1", {}, "Sources"),
      h("div", { class: "cards" }, status.sources.map((source) => this.#source(source))),
      h("p", { class: "dim" }, `northbound ${status.version}, up ${age(status.uptime)}; the store has ${size(status.store.file_bytes)} on disk`));
  }

  #connector(connector) {
    const name = `connector ${connector.name}`;
    const perSecond = this.model.watch.rate(name);
    const level = STATES[connector.state] ?? "bad";
    const credentials = connector.credentials.map((credential) => holds(credential, Date.now())).filter(Boolean);
    return h("article", { class: "card connector", "data-name": connector.name },
      h("h2", {}, connector.name, h("span", { class: `state ${level}` }, connector.state)),
      h("p", { class: "dim" }, `${connector.type} · ${connector.destination}`),
      h("p", { class: `verdict ${level}` }, verdict(connector, perSecond)),
      spark(this.model.watch.rates.get(name) ?? []),
      facts([
        ["Rate", rate(perSecond)],
        ["Acknowledged", count(connector.counters.acknowledged)],
        ["Last acknowledged", ago(connector.last_acknowledged_age)],
        ["Waiting", waiting(connector)],
        ["Under way", count(connector.inflight)],
        ["Tried again", count(connector.retried)],
      ]),
      connector.error ? h("p", { class: "problem" }, connector.error) : null,
      credentials.map((credential) => h("p", { class: `credential ${credential.level}` }, credential.words)),
      connector.dead_letters
        ? h("p", {}, h("a", { href: `#dead-letters?${connector.name}` }, plural(connector.dead_letters, "dead letter")))
        : null);
  }

  #source(source) {
    const level = { running: "good", finished: "good", waiting: "warn" }[source.state] ?? "bad";
    return h("article", { class: "card" },
      h("h2", {}, source.name, h("span", { class: `state ${level}` }, source.state)),
      h("p", { class: "dim" }, `${source.type} · ${source.origin}`),
      facts([
        ["Rate", rate(this.model.watch.rate(`source ${source.name}`))],
        ["Events", count(source.received)],
        ["Messages stored", count(source.committed)],
        ["Refused", count(source.refused)],
      ]),
      source.last_refusal ? h("p", { class: "dim" }, `The last refused: ${source.last_refusal}`) : null,
      source.error ? h("p", { class: "problem" }, source.error) : null);
  }
}

// The answer to "is it receiving?" in one sentence.
function verdict(connector, perSecond) {
  if (connector.state !== "online") {
    const since = connector.last_acknowledged_age;
    const last = since === null ? "nothing was acknowledged since the start" : `the last acknowledgement came ${ago(since)}`;
    return `Not receiving: ${connector.state}; ${last}.`;
  }
  if (perSecond > 0) return `Receiving ${rate(perSecond)}.`;
  if (connector.backlog) return `Online; ${plural(connector.backlog, "message")} waiting.`;
  const since = connector.last_acknowledged_age;
  return since === null ? "Online; there was nothing to send yet." : `Receiving; the last acknowledgement came ${ago(since)}.`;
}

function waiting(connector) {
  if (!connector.backlog) return "none";
  const oldest = connector.oldest_age === null ? "" : `, the oldest ${age(connector.oldest_age)}`;
  return `${count(connector.backlog)} (${size(connector.backlog_bytes)}${oldest})`;
}

function facts(pairs) {
  return h("dl", { class: "facts" }, pairs.map(([name, value]) => h("div", {}, h("dt", {}, name), h("dd", {}, value))));
}
