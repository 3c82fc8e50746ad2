// The tree of topics with live values and their age; a search; one topic's value, history and details.

import { fill, h } from "./dom.js";
import { VirtualList } from "./list.js";
import { plot, plottable } from "./plot.js";
import { isFilter, unescapeLevel } from "./tree.js";
import { age, ago, brief, count, moment, plural, pretty } from "./words.js";

const ROW = 30;
const MOST = 100000;
const LISTED = 500;
const FEW = 40;
const BESIDES = new Set(["metadata", "$SYS"]);

export class Topics {
  constructor(model) {
    this.model = model;
    this.expanded = new Set();
    this.selected = null; // a topic
    this.version = -1;
    this.text = "";
    this.list = new VirtualList({
      role: "tree", rowRole: "treeitem", label: "Topics", height: ROW,
      draw: (element, row) => this.#draw(element, row), act: (row, key) => this.#act(row, key),
    });
    this.field = h("input", {
      type: "search", placeholder: "Search names and ids, or a filter such as +/+/state/#", "aria-label": "Search topics",
      autocomplete: "off", spellcheck: "false", oninput: () => this.#search(this.field.value),
      onkeydown: (event) => {
        if (event.key === "ArrowDown" || event.key === "Enter") {
          this.list.element.focus();
          this.list.move(0);
          event.preventDefault();
        }
      },
    });
    this.summary = h("p", { class: "dim summary", role: "status" });
    this.detail = h("section", { class: "detail", "aria-label": "The selected topic" });
    this.element = h("div", { class: "topics" },
      h("section", { class: "browse" }, h("div", { class: "search" }, this.field), this.summary, this.list.element),
      this.detail);
    this.timer = setInterval(() => this.#tick(), 1000);
  }

  shown() {
    this.update();
    this.#detail();
  }

  close() {
    clearInterval(this.timer);
    this.list.close();
  }

  reset() {
    this.reopen = new Set([...this.expanded].map((node) => node.topic));
    this.expanded.clear();
    this.version = -1;
  }

  update() {
    const tree = this.model.tree;
    if (tree.version !== this.version) {
      this.version = tree.version;
      this.#reopen();
      if (!this.touched) this.#begin();
      this.#rows();
    } else this.list.paint();
    this.#detail();
  }

  #reopen() {
    for (const topic of this.reopen ?? []) {
      const node = this.model.tree.find(topic);
      if (!node) continue;
      this.expanded.add(node);
      this.reopen.delete(topic);
    }
  }

  // Until somebody opens or closes something: open what is few, so that a building shows something at once.
  #begin() {
    this.expanded.clear();
    for (let pass = 0; pass < 4; pass++) {
      const rows = this.model.tree.rows(this.expanded);
      const closed = rows.filter(({ node, open, chain }) => node.children && !open && !BESIDES.has(chain[0].name));
      const more = closed.reduce((sum, { node }) => sum + node.children.size, 0);
      if (more === 0 || rows.length + more > FEW) return;
      for (const { node } of closed) this.expanded.add(node);
    }
  }

  #rows() {
    const tree = this.model.tree;
    if (this.text) {
      const found = tree.search(this.text, MOST);
      this.list.set(found.map((node) => ({ node, depth: 0, chain: null, open: false })));
      const kind = isFilter(this.text) ? "match the filter" : "match";
      this.summary.textContent = found.length ? `${plural(found.length, "topic")} ${kind}` : "Nothing matches.";
    } else {
      const active = this.list.rows[this.list.active]?.node;
      const rows = tree.rows(this.expanded);
      const at = active ? rows.findIndex((row) => row.node === active) : 0;
      this.list.set(rows, Math.max(at, 0));
      this.summary.textContent = tree.size ? plural(tree.size, "topic") : "Nothing has come yet.";
    }
  }

  #search(text) {
    this.text = text.trim();
    clearTimeout(this.searching);
    this.searching = setTimeout(() => {
      this.list.element.scrollTop = 0;
      this.list.active = 0;
      this.#rows();
    }, 120);
  }

  #draw(element, row) {
    const { node, depth, chain, open } = row;
    const tree = this.model.tree;
    const branch = node.children !== null && chain !== null;
    element.setAttribute("aria-level", depth + 1);
    element.setAttribute("aria-selected", node.topic === this.selected);
    if (branch) element.setAttribute("aria-expanded", open);
    else element.removeAttribute("aria-expanded");
    element.style.paddingLeft = `${8 + depth * 16}px`;
    const cells = [
      h("span", { class: "twist", "aria-hidden": "true" }, branch ? (open ? "▾" : "▸") : ""),
      h("span", { class: "name" }, chain ? this.#chain(chain) : this.#found(node)),
    ];
    if (node.message) {
      cells.push(h("span", { class: "value" }, brief(node.message.value)),
        h("span", { class: "age" }, age((Date.now() - node.message.time) / 1000)));
    } else cells.push(h("span", { class: "value dim" }, tree.size ? count(node.leaves) : ""));
    fill(element, ...cells);
    element.title = node.topic;
  }

  #chain(chain) {
    const parts = [];
    chain.forEach((node, i) => {
      if (i) parts.push(h("span", { class: "dim" }, " / "));
      parts.push(this.#level(node));
    });
    return parts;
  }

  #level(node) {
    const label = this.model.tree.label(node);
    const name = unescapeLevel(node.name);
    if (label) return h("span", {}, label, h("span", { class: "id" }, ` ${name}`));
    return name === "_" ? h("span", { class: "dim" }, "—") : name;
  }

  // A found topic is named by what it says, then where; a found entity by its name.
  #found(node) {
    if (!node.message) return [h("b", {}, this.model.tree.label(node)), h("span", { class: "id" }, ` ${node.name}`)];
    const path = this.model.tree.path(node);
    const end = path.slice(-3).join(" / ");
    const before = path.slice(0, -3).reverse().slice(1).join(", ");
    return [h("span", {}, end), h("span", { class: "id" }, before ? `  ${before}` : "")];
  }

  #act(row, key) {
    const { node, open } = row;
    const branch = node.children !== null && row.chain !== null;
    if (key === "ArrowLeft" && !(branch && open)) {
      const parent = this.list.rows.findIndex((other) => other.node === node.parent || other.chain?.includes(node.parent));
      if (parent >= 0) this.list.move(parent);
      return;
    }
    if (key === "ArrowRight" && branch && open) return this.list.move(this.list.active + 1);
    if (branch && (key !== "ArrowLeft" || open)) this.#toggle(node, open);
    if (key !== "ArrowLeft" && key !== "ArrowRight" && key !== "Twist") this.select(node.topic);
  }

  #toggle(node, open) {
    this.touched = true;
    if (open) this.expanded.delete(node);
    else this.expanded.add(node);
    this.#rows();
  }

  select(topic) {
    this.selected = topic;
    this.cells = [];
    this.element.classList.add("selected");
    this.list.paint();
    this.#detail(true);
  }

  #tick() {
    this.list.paint();
    this.#detail();
  }

  #detail(anew = false) {
    const tree = this.model.tree;
    const node = this.selected === null ? null : tree.find(this.selected);
    if (!node) {
      const words = this.selected === null ? "Select a topic to see its value and how it changed." : "This topic was cleared.";
      this.shownNode = null;
      fill(this.detail, h("p", { class: "dim empty" }, words));
      return;
    }
    if (anew || this.shownNode !== node) {
      this.shownNode = node;
      this.said = h("div");
      this.under = h("div");
      this.underVersion = -1;
      fill(this.detail,
        h("div", { class: "heading" },
          h("h2", {}, this.#ways(node)),
          h("button", { type: "button", class: "quiet back", onclick: () => this.#back() }, "Close")),
        h("p", { class: "topic" }, node.topic), this.said, this.under);
    }
    const chosen = getSelection();
    const reading = !chosen.isCollapsed && this.detail.contains(chosen.anchorNode);
    const key = `${node.message?.received} ${Math.floor(Date.now() / 1000)}`;
    if (!reading && (anew || key !== this.key)) {
      this.key = key;
      fill(this.said, node.message ? this.#value(node) : null);
    }
    if (this.underVersion !== tree.version && !this.under.contains(document.activeElement)) {
      this.underVersion = tree.version;
      fill(this.under, node.children ? this.#under(node) : null);
    }
    for (const { leaf, value, when } of this.cells ?? []) {
      if (!leaf.message) continue;
      value.textContent = brief(leaf.message.value);
      when.textContent = age((Date.now() - leaf.message.time) / 1000);
    }
  }

  // The way to a node: each entity above it leads to all that it has.
  #ways(node) {
    const way = this.model.tree.way(node);
    return way.map((at, i) => {
      const name = this.model.tree.label(at) ?? unescapeLevel(at.name);
      if (at === node) return name;
      const { topic } = at;
      const button = h("button", { type: "button", class: "link", onclick: () => this.select(topic) }, name);
      return h("span", {}, button, h("span", { class: "dim" }, " / "));
    });
  }

  #back() {
    this.selected = null;
    this.element.classList.remove("selected");
    this.#detail(true);
    this.list.paint();
    this.list.element.focus();
  }

  #value(node) {
    const message = node.message;
    const now = Date.now();
    const points = this.model.history.of(node.topic);
    const parts = [
      h("pre", { class: "payload" }, pretty(message.value)),
      h("p", { class: "dim" }, `changed ${ago((now - message.time) / 1000)}, ${moment(message.time)}`),
      h("h3", {}, "Recent history"),
    ];
    if (points.length && plottable(points)) parts.push(plot(points, now));
    parts.push(h("table", { class: "changes" }, h("tbody", {}, points.slice(-12).reverse().map((point) =>
      h("tr", {}, h("td", { class: "dim" }, moment(point.time)), h("td", {}, brief(point.value)))))));
    parts.push(h("p", { class: "dim" }, "Since this page was opened."));
    return parts;
  }

  // Module, index and state name a value within its system; the driver says no more.
  #short(leaf, depth) {
    const path = this.model.tree.path(leaf);
    return path.slice(Math.max(Math.min(depth, path.length - 1), path.length - 3)).join(" / ");
  }

  #under(node) {
    const rows = [];
    this.cells = [];
    for (const leaf of this.model.tree.topics(node)) {
      if (rows.length === LISTED) break;
      if (leaf !== node) rows.push(leaf);
    }
    if (rows.length === 0) return null;
    const depth = this.model.tree.path(node).length;
    this.cells = rows.map((leaf) => ({ leaf, value: h("td"), when: h("td", { class: "dim" }) }));
    return [
      h("h3", {}, plural(node.leaves, "value")),
      h("table", { class: "values" }, h("tbody", {}, this.cells.map(({ leaf, value, when }) => h("tr", {},
        h("td", {}, h("button", { type: "button", class: "link", onclick: () => this.select(leaf.topic) },
          this.#short(leaf, depth))),
        value, when)))),
      node.leaves > rows.length ? h("p", { class: "dim" }, `The first ${count(rows.length)}.`) : null,
    ];
  }
}
