"use strict";
for (const view of document.querySelectorAll(".view")) {
  const slider = view.querySelector("input");
  const where = view.querySelector("output");
  const stacks = [...view.querySelectorAll(".stack")].map((stack) => stack.querySelectorAll("img"));
  const lines = document.querySelectorAll(`.stack i[data-of="${view.dataset.axis}"]`);
  const show = () => {
    const at = Number(slider.value);
    for (const images of stacks) images.forEach((image, number) => { image.hidden = number !== at; });
    const { label, share } = stacks[0][at].dataset;
    where.textContent = label;
    slider.setAttribute("aria-valuetext", label);
    for (const line of lines) line.style[line.className === "upright" ? "left" : "top"] = `${share}%`;
  };
  slider.addEventListener("input", show);
  slider.parentElement.hidden = false;
  show();
}
const drawn = document.getElementById("lines");
drawn.parentElement.hidden = false;
drawn.addEventListener("change", () => document.body.classList.toggle("plain", !drawn.checked));
