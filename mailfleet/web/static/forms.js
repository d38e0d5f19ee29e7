// Copying what stands on the page, keeping a form in its place while it is sent, and telling of a file that is too large.
// Without this script the forms work as well; the buttons that copy are not there then.
"use strict";

const SHOWN_MS = 2000;
const told = document.getElementById("copied");

async function copy(text, place) {
  if (navigator.clipboard && window.isSecureContext) {
    return navigator.clipboard.writeText(text).then(() => true, () => false);
  }
  // Over plain HTTP from another machine browsers have no clipboard to write to: what is marked can be copied.
  window.getSelection().selectAllChildren(place);
  return document.execCommand("copy");
}

document.querySelectorAll("[data-copy]").forEach((button) => {
  button.hidden = false;
  button.addEventListener("click", async () => {
    const place = document.getElementById(button.dataset.copy);
    const done = await copy(place.textContent, place);
    if (!done) {
      window.getSelection().selectAllChildren(place);
    }
    button.textContent = done ? "Copied" : "Marked";
    button.classList.toggle("done", done);
    told.textContent = done ? `Copied: ${button.dataset.what}` : "It is marked: copy it with the keyboard";
    setTimeout(() => {
      button.textContent = "Copy";
      button.classList.remove("done");
      told.textContent = "";
    }, SHOWN_MS);
  });
});

document.addEventListener("change", (event) => {
  const most = Number(event.target.dataset.most);
  const file = event.target.files?.[0];
  if (most) {
    event.target.setCustomValidity(file && file.size > most ? `it has ${file.size} bytes: ${most} are the most` : "");
    event.target.reportValidity();
  }
});

// Of a text and a file that say the same, the one that was given last is meant.
document.addEventListener("input", (event) => {
  const text = event.target.dataset.instead;
  if (text) {
    document.getElementById(text).value = "";
  } else {
    const file = document.querySelector(`[data-instead="${event.target.id}"]`);
    if (file) {
      file.value = "";
    }
  }
});

// A secret is not sent back, so a form with one is not replaced by the answer: only its words are.
async function send(form) {
  const answer = await fetch(form.action, { method: "POST", body: new FormData(form), redirect: "manual" });
  if (answer.type === "opaqueredirect") {
    location.assign(form.dataset.stays);
    return;
  }
  const fresh = new DOMParser().parseFromString(await answer.text(), "text/html");
  const other = fresh.getElementById(form.id);
  if (other === null) {
    document.querySelector("main").replaceWith(document.adoptNode(fresh.querySelector("main")));
    return;
  }
  form.querySelectorAll("textarea, input[type=file]").forEach((old) => {
    const place = other.querySelector(`#${old.id}`);
    for (const name of ["aria-invalid", "aria-describedby"]) {
      if (place.hasAttribute(name)) {
        old.setAttribute(name, place.getAttribute(name));
      } else {
        old.removeAttribute(name);
      }
    }
    place.replaceWith(old);
  });
  form.replaceChildren(...other.childNodes);
  (form.querySelector("[aria-invalid]") ?? form.querySelector("textarea")).focus();
}

document.addEventListener("submit", (event) => {
  const form = event.target;
  if ("stays" in form.dataset && !event.defaultPrevented) {
    event.preventDefault();
    const button = form.querySelector("button.main");
    button.disabled = true;
    send(form)
      .catch(() => form.submit())
      .finally(() => {
        button.disabled = false;
      });
  }
});
