"use strict";
const cards = [...document.querySelectorAll(".card")];
const filters = [...document.querySelectorAll("[data-show]")];
const search = document.querySelector("input[type=search]");
const dialog = document.querySelector("dialog");
let show = "all";
let open = null;

function refresh() {
  const wanted = search.value.trim().toLowerCase();
  let left = 0;
  for (const card of cards) {
    card.hidden = !((show === "all" || card.dataset.verdict === show) && card.dataset.name.includes(wanted));
    left += !card.hidden;
  }
  for (const button of filters) button.setAttribute("aria-pressed", button.dataset.show === show);
  document.querySelector(".empty").hidden = left > 0;
}

function enlarge(card) {
  open = card;
  const figures = [...card.querySelectorAll("img")].map((image) => {
    const figure = document.createElement("figure");
    const large = image.cloneNode();
    const caption = document.createElement("figcaption");
    large.loading = "eager";
    caption.textContent = image.alt;
    figure.append(large, caption);
    return figure;
  });
  dialog.querySelector(".large").replaceChildren(...figures);
  const told = card.querySelector("template");
  dialog.querySelector(".steps").replaceChildren(...(told ? [told.content.cloneNode(true)] : []));
  dialog.classList.toggle("explained", told !== null);
  dialog.scrollTop = 0;
  const [verdict, score, name] = [".stamp", ".score", ".file"].map((part) => card.querySelector(part).textContent.trim());
  dialog.querySelector("strong").textContent = `${verdict}: ${score} · ${name}`;
  if (!dialog.open) dialog.showModal();
}

function step(by) {
  const shown = cards.filter((card) => !card.hidden && card.querySelector(".pictures"));
  const next = shown[shown.indexOf(open) + by];
  if (next) enlarge(next);
}

for (const button of filters) button.addEventListener("click", () => { show = button.dataset.show; refresh(); });
search.addEventListener("input", refresh);
for (const card of cards) card.querySelector(".pictures")?.addEventListener("click", () => enlarge(card));
for (const button of dialog.querySelectorAll("[data-step]")) button.addEventListener("click", () => step(Number(button.dataset.step)));
dialog.querySelector("[data-close]").addEventListener("click", () => dialog.close());
dialog.addEventListener("click", (event) => { if (event.target === dialog) dialog.close(); });
dialog.addEventListener("keydown", (event) => {
  if (event.key === "ArrowRight") step(1);
  if (event.key === "ArrowLeft") step(-1);
});
dialog.addEventListener("close", () => open.querySelector(".pictures").focus());
