// A value's recent history as a stepped line: a value holds until the next one.

import { svg } from "./dom.js";
import { age } from "./words.js";

const WIDTH = 480;
const HEIGHT = 120;
const TOP = 8;
const BOTTOM = 18;

export const plottable = (points) =>
  points.length > 0 && points.every((point) => typeof point.value === "number" || typeof point.value === "boolean");

export function plot(points, now) {
  const values = points.map((point) => Number(point.value));
  const flags = points.every((point) => typeof point.value === "boolean");
  let low = Math.min(...values);
  let high = Math.max(...values);
  if (flags) [low, high] = [0, 1];
  else if (low === high) [low, high] = [low - 1, high + 1];
  const begin = points[0].time;
  const span = Math.max(now - begin, 1000);
  const x = (time) => Math.round(((time - begin) / span) * WIDTH * 10) / 10;
  const y = (value) => Math.round((TOP + (1 - (value - low) / (high - low)) * (HEIGHT - TOP - BOTTOM)) * 10) / 10;
  let path = `M0 ${y(values[0])}`;
  points.forEach((point, i) => { path += `H${x(point.time)}V${y(values[i])}`; });
  path += `H${WIDTH}`;
  const base = HEIGHT - BOTTOM;
  const name = (value) => (flags ? String(Boolean(value)) : Number(value.toPrecision(6)).toLocaleString("en"));
  const text = (words, at, up, anchor) => {
    const element = svg("text", { x: at, y: up, "text-anchor": anchor });
    element.textContent = words;
    return element;
  };
  const picture = svg("svg", { class: "plot", viewBox: `0 0 ${WIDTH} ${HEIGHT}`, role: "img" },
    svg("path", { class: "area", d: `${path}V${base}H0Z` }),
    svg("path", { class: "line", d: path }),
    svg("circle", { class: "dot", cx: WIDTH - 3, cy: y(values.at(-1)), r: 3 }),
    text(name(high), 4, TOP + 8, "start"),
    text(name(low), 4, base - 3, "start"),
    text(`${age(span / 1000)} ago`, 0, HEIGHT - 4, "start"),
    text("now", WIDTH, HEIGHT - 4, "end"));
  const words = `${points.length} values in ${age(span / 1000)}, between ${name(low)} and ${name(high)}, now ${name(values.at(-1))}`;
  picture.setAttribute("aria-label", words);
  return picture;
}

// A few numbers as a small line without words.
export function spark(values) {
  const high = Math.max(...values, 1e-9);
  const step = 100 / Math.max(values.length - 1, 1);
  const path = values.map((value, i) => `${i ? "L" : "M"}${(i * step).toFixed(1)} ${(22 - (value / high) * 20).toFixed(1)}`).join("");
  return svg("svg", { class: "spark", viewBox: "0 0 100 24", preserveAspectRatio: "none", "aria-hidden": "true" },
    svg("path", { class: "line", d: path || "M0 22" }));
}
