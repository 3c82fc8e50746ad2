// How values are written for people. Pure: told the time.

export function age(seconds) {
  if (seconds === null || seconds === undefined || !Number.isFinite(seconds)) return "never";
  if (seconds < 1) return "now";
  if (seconds < 60) return `${Math.floor(seconds)} s`;
  if (seconds < 3600) return `${Math.floor(seconds / 60)} min`;
  if (seconds < 172800) return `${Math.floor(seconds / 3600)} h`;
  return `${Math.floor(seconds / 86400)} d`;
}

export function ago(seconds) {
  const words = age(seconds);
  return words === "never" || words === "now" ? words : `${words} ago`;
}

export const count = (number) => Math.round(number).toLocaleString("en");

export function rate(perSecond) {
  if (perSecond >= 10) return `${count(perSecond)}/s`;
  return perSecond > 0 ? `${perSecond.toFixed(1)}/s` : "0/s";
}

export function size(bytes) {
  for (const unit of ["B", "KiB", "MiB"]) {
    if (bytes < 1024) return unit === "B" ? `${bytes} B` : `${bytes.toFixed(1)} ${unit}`;
    bytes /= 1024;
  }
  return `${bytes.toFixed(1)} GiB`;
}

export const plural = (number, noun) => `${count(number)} ${noun}${number === 1 ? "" : "s"}`;

export const moment = (milliseconds) => new Date(milliseconds).toLocaleString();

// A value on one line.
export function brief(value) {
  if (value === undefined) return "";
  const text = typeof value === "string" ? value : JSON.stringify(value);
  return text.length > 200 ? `${text.slice(0, 199)}…` : text;
}

export function pretty(value) {
  return typeof value === "string" ? value : JSON.stringify(value, null, 2);
}

// How long a credential still holds; null where it has no end that anybody knows.
export function holds(credential, now) {
  if (credential.expires === null || credential.expires === undefined) return null;
  const days = (credential.expires - now) / 86400000;
  const end = credential.renewed ? ", renewed by itself" : "";
  if (days <= 0) return { words: `${credential.name} has expired`, level: "bad" };
  const left = days >= 2 ? plural(Math.floor(days), "day") : `${(days * 24).toFixed(1)} hours`;
  const level = days < 14 && !credential.renewed ? "warn" : "good";
  return { words: `${credential.name}: ${left} left${end}`, level };
}
