// The service's numbers, asked for once a second while the page is seen, and how fast they grow.

const EVERY = 1000;
const KEPT = 60;

export class Watch {
  constructor(session) {
    this.session = session;
    this.status = null;
    this.error = null;
    this.rates = new Map(); // connector or source -> messages a second, oldest first
    this.timer = null;
    this.before = null;
  }

  start(told, failed) {
    const ask = async () => {
      if (!document.hidden) {
        try {
          this.#take(await this.session.get("/api/status"));
          this.error = null;
          told();
        } catch (error) {
          this.error = error;
          failed(error);
        }
      }
      if (this.timer !== null) this.timer = setTimeout(ask, EVERY);
    };
    this.timer = 0;
    ask();
  }

  stop() {
    clearTimeout(this.timer);
    this.timer = null;
  }

  #take(status) {
    const now = performance.now();
    const counts = new Map([
      ...status.connectors.map((connector) => [`connector ${connector.name}`, connector.counters.acknowledged]),
      ...status.sources.map((source) => [`source ${source.name}`, source.committed]),
    ]);
    if (this.before) {
      const seconds = (now - this.before.now) / 1000;
      for (const [name, number] of counts) {
        const grown = Math.max(0, number - (this.before.counts.get(name) ?? number)) / seconds;
        const series = this.rates.get(name) ?? [];
        series.push(grown);
        if (series.length > KEPT) series.shift();
        this.rates.set(name, series);
      }
    }
    this.before = { now, counts };
    this.status = status;
  }

  // Over the last few seconds: one alone jumps about.
  rate(name) {
    const last = (this.rates.get(name) ?? []).slice(-5);
    return last.length ? last.reduce((sum, value) => sum + value, 0) / last.length : 0;
  }
}
