// The page's only script: the slider and the points choose which configuration is
// shown, everything else is already in the page.
"use strict";

const data = JSON.parse(document.getElementById("data").textContent);
const slider = document.getElementById("drop");
const choice = document.getElementById("deployment");
const sections = [...document.querySelectorAll("section.deployment")];
let deployment = data.deployments.findIndex((one) => one.first !== null);
const shown = data.deployments.map((one) => one.first);

/** Shows one configuration of a deployment in all its charts. */
function show(number, configuration) {
  if (configuration === null || configuration === undefined) return;
  shown[number] = configuration;
  const section = sections[number];
  for (const block of section.querySelectorAll(".configuration")) {
    block.hidden = Number(block.dataset.configuration) !== configuration;
  }
  for (const dot of section.querySelectorAll(".dot")) {
    dot.classList.toggle("on", Number(dot.dataset.configuration) === configuration);
  }
  for (const button of section.querySelectorAll(".choose")) {
    button.setAttribute("aria-pressed", Number(button.dataset.choose) === configuration);
  }
  tell();
}

/** Shows only the details of a point that is pointed at; the charts stay. */
function peek(number, configuration) {
  for (const block of sections[number].querySelectorAll(".detail")) {
    block.hidden = Number(block.dataset.configuration) !== configuration;
  }
}

/** Says beside the slider what is shown. */
function tell() {
  const brief = document.getElementById("brief");
  if (!brief || deployment < 0 || shown[deployment] === null) return;
  const configuration = data.deployments[deployment].configurations[shown[deployment]];
  const figures = configuration.report ?? configuration.calibration;
  const change = (-figures.drop_pp).toFixed(2);
  const sign = Number(change) < 0 ? "−" : Number(change) > 0 ? "+" : "±";
  const speed = figures.speedup === null ? "" : `${figures.speedup.toFixed(2)}× · `;
  brief.textContent =
    `${configuration.name}: ${speed}${figures.mean_ms.toFixed(2)} ms · ` +
    `${sign}${change.replace("-", "")} pp on the ${configuration.report ? "report" : "calibration"} part`;
}

/** Moves every deployment to what is fastest at a stop of the slider. */
function stopAt(index) {
  const stop = data.stops[index];
  document.getElementById("drop-limit").textContent = `at most ${stop.drop_pp.toFixed(2)} pp`;
  stop.configurations.forEach((configuration, number) => show(number, configuration));
}

/** A point was chosen: the slider goes to the drop that it needs. */
function choose(number, configuration) {
  const drop = data.deployments[number].configurations[configuration].calibration.drop_pp;
  const index = data.stops.findIndex((stop) => stop.drop_pp >= drop - 1e-9);
  if (slider && index >= 0) {
    slider.value = index;
    stopAt(index);
  }
  show(number, configuration);
}

/** Of several deployments one is shown. */
function pick(number) {
  deployment = number;
  sections.forEach((section, k) => {
    section.hidden = k !== number;
  });
  tell();
}

/** Copies text; where a page may not write to the clipboard, by way of a selection. */
async function copy(button) {
  const code = button.parentElement.querySelector("code");
  let done = false;
  try {
    await navigator.clipboard.writeText(code.textContent);
    done = true;
  } catch {
    const range = document.createRange();
    range.selectNodeContents(code);
    const selection = getSelection();
    selection.removeAllRanges();
    selection.addRange(range);
    done = document.execCommand("copy");
  }
  button.textContent = done ? "copied" : "selected: press Ctrl-C";
  setTimeout(() => {
    button.textContent = "copy";
  }, 1500);
}

slider?.addEventListener("input", () => stopAt(Number(slider.value)));
choice?.addEventListener("change", () => pick(Number(choice.value)));
sections.forEach((section, number) => {
  for (const dot of section.querySelectorAll(".dot")) {
    const configuration = Number(dot.dataset.configuration);
    dot.addEventListener("click", () => choose(number, configuration));
    dot.addEventListener("pointerenter", () => peek(number, configuration));
    dot.addEventListener("focus", () => peek(number, configuration));
    for (const end of ["pointerleave", "blur"]) {
      dot.addEventListener(end, () => peek(number, shown[number]));
    }
    dot.addEventListener("keydown", (event) => {
      if (event.key === "Enter" || event.key === " ") {
        event.preventDefault();
        choose(number, configuration);
      }
    });
  }
  for (const button of section.querySelectorAll(".choose")) {
    button.addEventListener("click", () => {
      choose(number, Number(button.dataset.choose));
      section.scrollIntoView({ block: "start" });
    });
  }
  show(number, shown[number]);
});
for (const button of document.querySelectorAll("button.copy")) {
  button.addEventListener("click", () => copy(button));
}
// What is folded is printed too.
addEventListener("beforeprint", () => {
  for (const details of document.querySelectorAll("details")) details.open = true;
});
if (choice) pick(deployment);
tell();
