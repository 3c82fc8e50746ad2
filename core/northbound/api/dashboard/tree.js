// The topics as a tree, their names, and the search through them. Pure: no page, no clock, no connection.

export class Node {
  constructor(name, parent) {
    this.name = name;
    this.parent = parent;
    this.children = null; // Map by name
    this.sorted = null; // children in order, made when asked for
    this.message = null; // {payload, value, time, received, retain}
    this.leaves = 0; // topics at and under it
  }

  get topic() {
    const names = [];
    for (let node = this; node.parent; node = node.parent) names.push(node.name);
    return names.reverse().join("/");
  }

  get inOrder() {
    if (this.sorted === null && this.children) {
      this.sorted = [...this.children.values()].sort((a, b) => compare(a.name, b.name));
    }
    return this.sorted ?? [];
  }
}

const collator = new Intl.Collator("en", { numeric: true });
// What changes comes before what describes it.
const LAST = ["metadata", "$SYS"];
const compare = (a, b) => LAST.indexOf(a) - LAST.indexOf(b) || collator.compare(a, b);

export const unescapeLevel = (level) => {
  if (!level.includes("%")) return level;
  try {
    return decodeURIComponent(level);
  } catch {
    return level;
  }
};

export class Tree {
  constructor(site) {
    this.site = site; // {root, value}
    this.root = new Node("", null);
    this.names = new Map(); // id as it stands in topics -> name
    this.version = 0; // of the structure and the names
  }

  get size() {
    return this.root.leaves;
  }

  find(topic) {
    let node = this.root;
    for (const level of topic.split("/")) {
      node = node.children?.get(level);
      if (!node) return null;
    }
    return node;
  }

  // Takes in a message; returns its node, null where the topic was cleared.
  put(topic, payload, retain, received) {
    const levels = topic.split("/");
    if (payload === "") {
      this.#clear(levels);
      return null;
    }
    let node = this.root;
    for (const level of levels) {
      node.children ??= new Map();
      let child = node.children.get(level);
      if (!child) {
        child = new Node(level, node);
        node.children.set(level, child);
        node.sorted = null;
        this.version++;
      }
      node = child;
    }
    if (!node.message) this.#count(node, 1);
    node.message = this.#read(payload, retain, received, levels);
    return node;
  }

  #read(payload, retain, received, levels) {
    const message = { payload, value: payload, time: received, received, retain };
    let body;
    try {
      body = JSON.parse(payload);
    } catch {
      return message;
    }
    message.value = body;
    const metadata = levels.length === 4 && levels[2] === "metadata";
    const envelope = body !== null && typeof body === "object" && typeof body.time === "number" && "value" in body;
    if (envelope) {
      message.time = body.time < 1e11 ? body.time * 1000 : body.time;
      message.value = body.value;
      if (this.site.value === "string" && !metadata && typeof body.value === "string") {
        try {
          message.value = JSON.parse(body.value);
        } catch { /* a value of another form is shown as it is */ }
      }
    }
    if (metadata) this.#name(levels[3], message.value);
    return message;
  }

  #name(id, entity) {
    const name = entity && typeof entity === "object" ? entity.name ?? entity.display_name : null;
    if (typeof name === "string" && this.names.get(id) !== name) {
      this.names.set(id, name);
      this.version++;
    }
  }

  #clear(levels) {
    let node = this.root;
    for (const level of levels) {
      node = node.children?.get(level);
      if (!node) return;
    }
    if (!node.message) return;
    node.message = null;
    this.#count(node, -1);
    if (levels.length === 4 && levels[2] === "metadata") this.names.delete(levels[3]);
    while (node.parent && node.leaves === 0) {
      node.parent.children.delete(node.name);
      node.parent.sorted = null;
      node = node.parent;
    }
    this.version++;
  }

  #count(node, change) {
    for (let at = node; at; at = at.parent) at.leaves += change;
  }

  // The name of a node's entity, where its metadata told one.
  label(node) {
    return this.names.get(node.name) ?? null;
  }

  // The nodes from the top to this one that tell where it is: what is missing ('_') and, in the site's own topics, the
  // root, the organisation and the kind are left out.
  way(node) {
    const nodes = [];
    for (let at = node; at.parent; at = at.parent) nodes.unshift(at);
    const ours = nodes[0]?.name === this.site.root && nodes.length > 3;
    return nodes.slice(ours ? 3 : 0).filter((at) => at.name !== "_");
  }

  // The names on that way, for people.
  path(node) {
    return this.way(node).map((at) => this.label(at) ?? unescapeLevel(at.name));
  }

  *topics(node = this.root) {
    if (node.message) yield node;
    for (const child of node.inOrder) yield* this.topics(child);
  }

  // The rows of what is expanded: {node, depth, text}; a chain of single children is one row.
  rows(expanded) {
    const rows = [];
    const visit = (node, depth) => {
      const chain = [node];
      while (!node.message && node.children?.size === 1) {
        node = node.children.values().next().value;
        chain.push(node);
      }
      const open = expanded.has(node);
      rows.push({ node, depth, chain, open });
      if (open) for (const child of node.inOrder) visit(child, depth + 1);
    };
    for (const child of this.root.inOrder) visit(child, 0);
    return rows;
  }

  // The nodes that match: an MQTT filter where it has '+' or '#'; else what has the text in its ids or names, first the
  // entities of that name; where nothing has the text as it is, what has all of its words.
  search(text, most) {
    const wanted = text.trim();
    if (isFilter(wanted)) {
      const filter = wanted.split("/");
      return this.#select((node) => node.message && matches(filter, node.topic.split("/")), most);
    }
    const phrase = wanted.toLowerCase();
    const entities = this.#select((node) => !node.message && holds(this.label(node)?.toLowerCase() ?? "", phrase), 20);
    const exact = this.#select((node, here) => node.message && holds(here, phrase), most);
    if (exact.length) return [...entities, ...exact];
    const words = phrase.split(/[\s/]+/).filter(Boolean);
    return this.#select((node, here) => node.message && words.every((word) => here.includes(word)), most);
  }

  #select(wanted, most) {
    const found = [];
    const visit = (node, words) => {
      if (found.length >= most) return;
      const here = node.parent ? `${words} ${unescapeLevel(node.name)} ${this.label(node) ?? ""}`.toLowerCase() : "";
      if (node.parent && wanted(node, here)) found.push(node);
      for (const child of node.inOrder) visit(child, here);
    };
    visit(this.root, "");
    return found;
  }
}

export const isFilter = (text) => /(^|\/)[+#](\/|$)/.test(text.trim());

const inside = (character) => character !== undefined && /[\p{L}\p{N}]/u.test(character);

// Whether the text has the phrase as whole words: "room 7" is not in "room 70".
function holds(text, phrase) {
  for (let at = text.indexOf(phrase); at >= 0; at = text.indexOf(phrase, at + 1)) {
    if (!inside(text[at - 1]) && !inside(text[at + phrase.length])) return true;
  }
  return false;
}

// MQTT 5.0, 4.7: '+' is one level, '#' the rest and the level above it, and neither stands for a leading '$'.
export function matches(filter, levels) {
  if (levels[0].startsWith("$") && (filter[0] === "+" || filter[0] === "#")) return false;
  for (let i = 0; i < filter.length; i++) {
    if (filter[i] === "#") return true;
    if (i >= levels.length) return false;
    if (filter[i] !== "+" && filter[i] !== levels[i]) return false;
  }
  return filter.length === levels.length;
}
