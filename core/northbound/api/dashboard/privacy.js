// What the privacy rules changed since the start: counts, never what it was.

import { fill, h } from "./dom.js";
import { count, plural } from "./words.js";

export class Privacy {
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
    const rules = [...status.rules].sort((a, b) => b.acted - a.acted);
    const dropped = status.sources.reduce((sum, source) => sum + source.dropped, 0);
    const withheld = status.connectors.filter((connector) => connector.counters.withheld);
    const most = Math.max(...rules.map((rule) => rule.acted), 1);
    fill(this.element,
      h("h1", {}, "Privacy"),
      rules.length === 0
        ? h("p", { class: "problem" }, "No rule is in force: everything leaves as it is.")
        : h("p", {}, "What each rule did since the start. A rule acts before a value is stored, shown here or sent."),
      h("div", { class: "table" }, h("table", { class: "rules" },
        h("thead", {}, h("tr", {}, ["Rule", "Action", "For", "Acted", ""].map((name) => h("th", { scope: "col" }, name)))),
        h("tbody", {}, rules.map((rule) => h("tr", {},
          h("td", {}, rule.name), h("td", {}, rule.action), h("td", {}, rule.connector ?? "everything"),
          h("td", { class: "number" }, count(rule.acted)),
          h("td", { class: "bar" }, h("meter", { min: 0, max: most, value: rule.acted, "aria-label": `${rule.name}: ${rule.acted}` }))))))),
      h("p", {}, `${plural(dropped, "event")} dropped whole before the store.`),
      withheld.map((connector) => h("p", {}, `${plural(connector.counters.withheld, "message")} withheld from ${connector.name}.`)));
  }
}
