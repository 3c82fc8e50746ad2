// The recent values of topics since the page was opened: bounded, the topic longest unchanged is forgotten first.

const TOPICS = 3000;
const POINTS = 240;

export class History {
  #series = new Map();

  add(topic, message) {
    const points = this.#series.get(topic) ?? [];
    this.#series.delete(topic);
    this.#series.set(topic, points);
    const last = points.at(-1);
    if (last && last.time === message.time && last.payload === message.payload) return;
    points.push({ time: message.time, value: message.value, payload: message.payload });
    if (points.length > POINTS) points.shift();
    if (this.#series.size > TOPICS) this.#series.delete(this.#series.keys().next().value);
  }

  of(topic) {
    return this.#series.get(topic) ?? [];
  }

  clear() {
    this.#series.clear();
  }
}
