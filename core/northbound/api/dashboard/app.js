// The page: sign in, keep the live tree and the service's numbers fresh, show one of four views.

import { Connectors } from "./connectors.js";
import { fill, h, paced } from "./dom.js";
import { History } from "./history.js";
import { Letters } from "./letters.js";
import { Privacy } from "./privacy.js";
import { Refusal, Session } from "./session.js";
import { Topics } from "./topics.js";
import { Tree } from "./tree.js";
import { Watch } from "./watch.js";
import { count } from "./words.js";

const VIEWS = { topics: Topics, connectors: Connectors, "dead-letters": Letters, privacy: Privacy };
const main = document.getElementById("main");
const bar = document.getElementById("bar");

let session = null;
let model = null; // {session, tree, history, watch, changed}
let view = null;
let disconnect = null;

function signIn(words = "") {
  leave();
  const field = h("input", {
    id: "token", type: "password", autocomplete: "current-password", required: true, spellcheck: "false",
    "aria-describedby": "hint",
  });
  const problem = h("p", { class: "problem", role: "alert" }, words);
  const button = h("button", { type: "submit", class: "primary" }, "Sign in");
  const form = h("form", {
    class: "card sign-in",
    onsubmit: async (event) => {
      event.preventDefault();
      button.disabled = true;
      problem.textContent = "";
      try {
        await start(field.value.trim());
      } catch (error) {
        button.disabled = false;
        problem.textContent = told(error);
        field.select();
      }
    },
  },
  h("h1", {}, "northbound"),
  h("label", { for: "token" }, "Token or API key"),
  field,
  h("p", { id: "hint", class: "dim" }, "A JSON Web Token, or a key that 'northbound keys create' made. It stays in this tab."),
  problem, button);
  fill(main, form);
  field.focus();
}

const told = (error) => (error instanceof Refusal ? error.message : "The service does not answer: is it running?");

function leave() {
  disconnect?.();
  model?.watch.stop();
  view?.close();
  [session, model, view, disconnect] = [null, null, null, null];
  bar.hidden = true;
}

async function start(token) {
  const opened = new Session(token);
  await opened.open();
  leave();
  session = opened;
  const tree = new Tree(session.site);
  model = { session, tree, history: new History(), watch: new Watch(session), live: "waiting", changed: () => {} };
  const changed = paced(() => view?.update?.(), 200);
  model.changed = changed;
  disconnect = session.connect({
    fresh: () => model && model.tree.size && reset(),
    message: (topic, payload, retain) => {
      if (!model) return;
      const node = model.tree.put(topic, payload, retain, Date.now());
      if (node) model.history.add(topic, node.message);
      changed();
    },
    state: (state) => {
      if (!model) return; // signed out: it closes behind us
      model.live = state;
      head();
      changed();
    },
    refused: () => signedOut("What you signed in with has expired or was revoked."),
  });
  if (session.operates) {
    model.watch.start(() => {
      head();
      view?.numbers?.();
    }, (error) => {
      if (error instanceof Refusal && error.status === 401) signedOut(error.message);
    });
  }
  bar.hidden = false;
  for (const link of document.querySelectorAll("#tabs a")) {
    link.hidden = !session.operates && link.dataset.view !== "topics";
  }
  head();
  show();
}

function signedOut(words) {
  Session.forget();
  signIn(words);
}

// After a new connection the present comes whole: what was cleared meanwhile must not stay.
function reset() {
  const names = model.tree.names;
  model.tree = new Tree(session.site);
  model.tree.names = names;
  view?.reset?.();
}

function head() {
  const live = document.getElementById("live");
  live.className = `live ${model.live}`;
  live.textContent = model.live === "live" ? "live" : "connecting…";
  live.title = `${session.me.name || session.me.subject}, ${session.me.role}`;
  const status = model.watch.status;
  const unwell = status ? status.connectors.filter((connector) => connector.state !== "online").length : 0;
  badge("unwell", unwell);
  badge("dead", status ? status.connectors.reduce((sum, connector) => sum + connector.dead_letters, 0) : 0);
}

function badge(id, number) {
  const element = document.getElementById(id);
  element.hidden = number === 0;
  element.textContent = count(number);
}

function show() {
  if (!model) return;
  const name = location.hash.slice(1).split("?")[0];
  const wanted = session.operates && name in VIEWS ? name : "topics";
  for (const link of document.querySelectorAll("#tabs a")) {
    if (link.dataset.view === wanted) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  }
  view?.close();
  view = new VIEWS[wanted](model);
  fill(main, view.element);
  view.shown?.();
}

window.addEventListener("hashchange", () => {
  if (location.hash === "#main") return main.focus();
  const kept = /[#&]token=/.test(location.hash) ? Session.kept() : null;
  if (kept) start(kept).catch((error) => signIn(told(error)));
  else show();
});

document.addEventListener("keydown", (event) => {
  if (event.key !== "/" || event.target.closest("input, textarea")) return;
  const field = main.querySelector("input[type=search]");
  if (field) {
    field.focus();
    event.preventDefault();
  }
});

document.getElementById("leave").addEventListener("click", () => signedOut(""));

const theme = localStorage.getItem("northbound-theme");
if (theme) document.documentElement.dataset.theme = theme;
document.getElementById("theme").addEventListener("click", () => {
  const dark = document.documentElement.dataset.theme
    ? document.documentElement.dataset.theme === "dark"
    : matchMedia("(prefers-color-scheme: dark)").matches;
  document.documentElement.dataset.theme = dark ? "light" : "dark";
  localStorage.setItem("northbound-theme", document.documentElement.dataset.theme);
});

const kept = Session.kept();
if (kept) start(kept).catch((error) => signIn(told(error)));
else signIn();
