// A list of any length of which only what can be seen is in the page: rows of one height, moved and filled again.

import { h } from "./dom.js";

const SPARE = 8;

export class VirtualList {
  // draw(element, row, index) fills an element; act(row, key) is told of keys and clicks on the active row.
  constructor({ role, label, rowRole, height, draw, act }) {
    this.rows = [];
    this.active = 0;
    this.height = height;
    this.draw = draw;
    this.act = act;
    this.rowRole = rowRole;
    this.pool = [];
    this.space = h("div", { class: "space", role: "presentation" });
    this.element = h("div", { class: "virtual", role, "aria-label": label, tabindex: 0 }, this.space);
    this.element.addEventListener("scroll", () => this.paint(), { passive: true });
    this.element.addEventListener("keydown", (event) => this.#key(event));
    this.element.addEventListener("click", (event) => this.#click(event));
    this.observer = new ResizeObserver(() => this.paint());
    this.observer.observe(this.element);
  }

  set(rows, active = this.active) {
    this.rows = rows;
    this.active = Math.max(0, Math.min(active, rows.length - 1));
    // Browsers end at about 33 million pixels: 1.2 million rows of this height.
    this.space.style.height = `${rows.length * this.height}px`;
    this.paint();
  }

  paint() {
    const first = Math.max(0, Math.floor(this.element.scrollTop / this.height) - SPARE);
    const shown = Math.ceil(this.element.clientHeight / this.height) + 2 * SPARE;
    const last = Math.min(this.rows.length, first + shown);
    while (this.pool.length < last - first) {
      const row = h("div", { class: "row", role: this.rowRole });
      this.pool.push(row);
      this.space.append(row);
    }
    let active = null;
    this.pool.forEach((element, i) => {
      const index = first + i;
      element.hidden = index >= last;
      if (index >= last) return;
      element.dataset.index = index;
      element.id = `row-${index}`;
      element.style.transform = `translateY(${index * this.height}px)`;
      element.setAttribute("aria-posinset", index + 1);
      element.setAttribute("aria-setsize", this.rows.length);
      element.classList.toggle("active", index === this.active);
      if (index === this.active) active = element.id;
      this.draw(element, this.rows[index], index);
    });
    if (active) this.element.setAttribute("aria-activedescendant", active);
    else this.element.removeAttribute("aria-activedescendant");
  }

  move(index) {
    if (this.rows.length === 0) return;
    this.active = Math.max(0, Math.min(index, this.rows.length - 1));
    const top = this.active * this.height;
    const view = this.element;
    if (top < view.scrollTop) view.scrollTop = top;
    else if (top + this.height > view.scrollTop + view.clientHeight) view.scrollTop = top + this.height - view.clientHeight;
    this.paint();
  }

  #key(event) {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const page = Math.max(1, Math.floor(this.element.clientHeight / this.height) - 1);
    const moves = {
      ArrowDown: this.active + 1, ArrowUp: this.active - 1, PageDown: this.active + page, PageUp: this.active - page,
      Home: 0, End: this.rows.length - 1,
    };
    if (event.key in moves) this.move(moves[event.key]);
    else if (["Enter", " ", "ArrowLeft", "ArrowRight"].includes(event.key) && this.rows[this.active]) {
      this.act(this.rows[this.active], event.key);
    } else return;
    event.preventDefault();
  }

  #click(event) {
    const element = event.target.closest(".row");
    if (!element) return;
    this.active = Number(element.dataset.index);
    this.act(this.rows[this.active], event.target.closest(".twist") ? "Twist" : "Click");
  }

  close() {
    this.observer.disconnect();
  }
}
