// What was set aside and why; replay or drop it.

import { fill, h } from "./dom.js";
import { Refusal } from "./session.js";
import { count, moment, plural, pretty, size } from "./words.js";

const PAGE = 100;

export class Letters {
  constructor(model) {
    this.model = model;
    this.connector = decodeURIComponent(location.hash.split("?")[1] ?? "");
    this.rows = [];
    this.more = false;
    this.said = h("p", { role: "status", class: "dim" });
    this.body = h("div", { class: "letters" });
    this.element = h("div", { class: "page" }, h("h1", {}, "Dead letters"), this.said, this.body);
  }

  shown() {
    this.load();
    this.timer = setInterval(() => this.#freshen(), 2000);
  }

  close() {
    clearInterval(this.timer);
  }

  async load(after = 0) {
    const connector = this.connector ? `&connector=${encodeURIComponent(this.connector)}` : "";
    try {
      const told = await this.model.session.get(`/api/dead-letters?limit=${PAGE}&after=${after}${connector}`);
      this.rows = after ? [...this.rows, ...told.dead_letters] : told.dead_letters;
      this.more = told.more;
      this.loaded = true;
      this.#draw();
    } catch (error) {
      this.#say(error);
    }
  }

  // Only what is not being looked at: an opened one stays as it is.
  #freshen() {
    if (this.rows.length <= PAGE && !this.body.querySelector("details[open]") && !this.body.contains(document.activeElement)) this.load();
  }

  #say(error) {
    this.said.textContent = error instanceof Refusal ? error.message : String(error);
  }

  #draw() {
    if (this.rows.length === 0) {
      const whose = this.connector ? ` of ${this.connector}` : "";
      return fill(this.body, h("p", { class: "empty dim" }, `No dead letters${whose}: nothing was set aside.`));
    }
    const reasons = new Map();
    for (const row of this.rows) reasons.set(row.reason, (reasons.get(row.reason) ?? 0) + 1);
    const most = [...reasons].sort((a, b) => b[1] - a[1]).slice(0, 5);
    fill(this.body,
      h("p", {}, `What a destination will never take as it is, with the reason, oldest first. ${this.#number()}`),
      most.length < this.rows.length ? h("ul", { class: "reasons" }, most.map(([reason, number]) => h("li", {}, h("b", {}, `${number} × `), reason))) : null,
      this.#all(),
      this.rows.map((row) => this.#letter(row)),
      this.more ? h("button", { type: "button", onclick: () => this.load(this.rows.at(-1).id) }, "Show more") : null);
  }

  #number() {
    const whose = this.connector ? ` of ${this.connector}` : "";
    const waiting = (this.model.watch.status?.connectors ?? [])
      .filter((connector) => !this.connector || connector.name === this.connector)
      .reduce((sum, connector) => sum + connector.dead_letters, 0);
    const shown = this.more ? `, the first ${count(this.rows.length)} here` : "";
    return `${plural(Math.max(waiting, this.rows.length), "dead letter")}${whose}${shown}.`;
  }

  #all() {
    if (!this.model.session.me.writes) return null;
    const which = this.connector ? { connector: this.connector } : { all: true };
    return h("p", { class: "actions" },
      h("button", { type: "button", onclick: () => this.#do(() => this.model.session.post("/api/dead-letters/replay", which)) }, "Replay all"),
      this.connector ? h("a", { href: "#dead-letters" }, "Of every connector") : null);
  }

  #letter(row) {
    const content = h("div", { class: "content" });
    return h("details", { class: "card letter", ontoggle: (event) => event.target.open && this.#open(row, content) },
      h("summary", {},
        h("span", { class: "reason" }, row.reason),
        h("span", { class: "dim" }, `${row.connector} · ${moment(row.at)} · ${size(row.size)}${row.state === "waiting" ? "" : ` · ${row.state}`}`),
        h("span", { class: "topic" }, row.topic)),
      content);
  }

  async #open(row, content) {
    let letter;
    try {
      letter = await this.model.session.get(`/api/dead-letters/${row.id}`);
    } catch (error) {
      return fill(content, h("p", { class: "problem" }, error.message));
    }
    const text = letter.payload_text ?? `${letter.payload_base64} (base64: the payload is not text)`;
    let shown = text;
    try {
      shown = pretty(JSON.parse(text));
    } catch { /* no JSON: as it is */ }
    const path = `/api/dead-letters/${row.id}`;
    fill(content,
      h("pre", { class: "payload" }, shown || "(empty: it clears the topic)"),
      this.model.session.me.writes
        ? h("p", { class: "actions" },
          h("button", { type: "button", class: "primary", onclick: () => this.#do(() => this.model.session.post(`${path}/replay`)) }, "Replay"),
          h("button", { type: "button", onclick: () => this.#do(() => this.model.session.post(`${path}/replay?force`)) }, "Replay even if overtaken"),
          h("button", { type: "button", class: "danger", onclick: (event) => this.#sure(event.target, () => this.model.session.delete(path)) }, "Drop"))
        : h("p", { class: "dim" }, "What you signed in with may not replay it."));
  }

  // Asks once more before something is gone for good.
  #sure(button, work) {
    if (button.dataset.sure) return this.#do(work);
    button.dataset.sure = "yes";
    button.textContent = "Drop for good?";
    setTimeout(() => {
      delete button.dataset.sure;
      button.textContent = "Drop";
    }, 4000);
  }

  async #do(work) {
    try {
      const told = await work();
      const [what, ids] = told.replay ? ["will be sent again within seconds", told.replay] : ["dropped", told.dropped];
      this.said.textContent = `${plural(ids.length, "dead letter")} ${what}.`;
      document.activeElement?.blur();
      await this.load();
    } catch (error) {
      this.#say(error);
    }
  }
}
