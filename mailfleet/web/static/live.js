// Keeps the parts of the page that carry data-live up to date: fetches each once a second and swaps it in when it changed.
// Markup comes only from this server's templates, which escape what strangers wrote. What has the focus keeps it, what is open stays open.
"use strict";

const PERIOD_MS = 1000;
const stale = document.getElementById("stale");
let pressed = false; // what is exchanged under a finger hears no click: it waits for the next time
const parts = [...document.querySelectorAll("[data-live]")].map((place) => ({ place, shown: "" }));

async function refresh(part) {
  const answer = await fetch(part.place.dataset.live, { credentials: "same-origin", cache: "no-store" });
  if (answer.status === 401) {
    location.reload();
    throw new Error("logged out");
  }
  if (!answer.ok) {
    throw new Error(`HTTP ${answer.status}`);
  }
  const fresh = await answer.text();
  if (fresh === part.shown || pressed) {
    return;
  }
  const focused = part.place.contains(document.activeElement) ? document.activeElement.id : "";
  const open = [...part.place.querySelectorAll("details")].map((details) => details.open);
  part.place.innerHTML = fresh;
  part.place.querySelectorAll("details").forEach((details, place) => {
    details.open = open[place] ?? false;
  });
  part.shown = fresh;
  if (focused) {
    document.getElementById(focused)?.focus();
  }
}

async function tick() {
  if (!document.hidden) {
    const ends = await Promise.allSettled(parts.map(refresh));
    stale.hidden = ends.every((end) => end.status === "fulfilled");
  }
  setTimeout(tick, PERIOD_MS);
}

for (const begins of ["pointerdown", "keydown"]) {
  window.addEventListener(begins, () => {
    pressed = true;
  });
}
for (const ends of ["pointerup", "pointercancel", "keyup", "blur"]) {
  window.addEventListener(ends, () => {
    pressed = false;
  });
}
document.addEventListener("submit", (event) => {
  const question = event.target.dataset.confirm;
  if (question && !window.confirm(question)) {
    event.preventDefault();
  } else if ("once" in event.target.dataset) {
    event.target.querySelector("button").disabled = true; // it takes its time, and is not to be asked for twice
  }
});
window.addEventListener("pageshow", () => {
  document.querySelectorAll("[data-once] button").forEach((button) => {
    button.disabled = false;
  });
});
setTimeout(tick, PERIOD_MS);
