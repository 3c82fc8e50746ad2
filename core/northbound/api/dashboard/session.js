// Who is signed in: the token (kept for this tab only), requests with it, and the live connection.

import mqtt from "./vendor/mqtt.esm.js";

const KEPT = "northbound-token";
// What a broker answers to somebody it does not know or no longer knows: MQTT 3.1.1, 3.2.2.3; MQTT 5.0, 3.2.2.2.
const REFUSED = new Set([4, 5, 134, 135, 138]);

export class Refusal extends Error {
  constructor(status, words) {
    super(words);
    this.status = status;
  }
}

export class Session {
  constructor(token) {
    this.token = token;
    this.me = null;
    this.site = null;
  }

  // A token in the address is for this tab; it never goes to the server, and is taken out of the address.
  static kept() {
    const given = /[#&]token=([^&]+)/.exec(location.hash);
    if (given) {
      sessionStorage.setItem(KEPT, decodeURIComponent(given[1]));
      history.replaceState(null, "", `${location.pathname}#topics`);
    }
    return sessionStorage.getItem(KEPT);
  }

  static forget() {
    sessionStorage.removeItem(KEPT);
  }

  async open() {
    const told = await this.get("/api/me");
    this.me = told.identity;
    this.site = told.site;
    this.version = told.version;
    sessionStorage.setItem(KEPT, this.token);
  }

  get operates() {
    return this.me.role !== "user";
  }

  get(path) {
    return this.#ask("GET", path);
  }

  post(path, body) {
    return this.#ask("POST", path, body);
  }

  delete(path) {
    return this.#ask("DELETE", path);
  }

  async #ask(method, path, body) {
    const headers = { Accept: "application/json" };
    // An API key is '<id>.<secret>'; a JWT has three parts.
    if (this.token.split(".").length === 2) headers["X-API-Key"] = this.token;
    else headers.Authorization = `Bearer ${this.token}`;
    if (body !== undefined) headers["Content-Type"] = "application/json";
    const response = await fetch(path, {
      method, headers, cache: "no-store", credentials: "omit", redirect: "error",
      body: body === undefined ? undefined : JSON.stringify(body),
    });
    const answer = await response.json().catch(() => ({}));
    if (!response.ok) throw new Refusal(response.status, answer.error ?? `the answer was ${response.status}`);
    return answer;
  }

  // Subscribes to everything; it arrives as on.message(topic, payload, retain). on.state is told "live", "waiting".
  connect(on) {
    const scheme = location.protocol === "https:" ? "wss:" : "ws:";
    const decoder = new TextDecoder();
    const client = mqtt.connect(`${scheme}//${location.host}/api/mqtt/`, {
      protocolVersion: 5,
      clientId: `dashboard-${crypto.getRandomValues(new Uint32Array(2)).join("-")}`,
      username: this.token,
      password: this.token,
      clean: true,
      reconnectPeriod: 2000,
      connectTimeout: 10000,
      keepalive: 30,
      resubscribe: false,
      timerVariant: "native", // the other kind needs a worker from a blob, which the policy of this page forbids
    });
    client.on("connect", () => {
      on.fresh();
      client.subscribe("#", { qos: 0 }, (error) => on.state(error ? "waiting" : "live"));
    });
    client.on("message", (topic, payload, packet) => on.message(topic, decoder.decode(payload), packet.retain));
    client.on("close", () => on.state("waiting"));
    client.on("error", (error) => {
      if (!REFUSED.has(error.code)) return;
      client.end(true);
      on.refused();
    });
    client.on("disconnect", (packet) => {
      if (!REFUSED.has(packet.reasonCode)) return;
      client.end(true);
      on.refused();
    });
    return () => client.end(true);
  }
}
