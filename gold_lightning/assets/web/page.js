// The form: a box for each field, and the answer below it.
import { Student } from "./student.js";

const MOST_BARS = 12;
const element = (name, text = "", className = "") => {
  const created = document.createElement(name);
  created.textContent = text;
  created.className = className;
  return created;
};
const percent = (share) => `${(100 * share).toFixed(1)} %`;
const form = document.querySelector("form");
const status = document.querySelector("#status");
const answer = document.querySelector("#answer");

function show(prediction) {
  const rows = Object.entries(prediction.probabilities).sort((a, b) => b[1] - a[1]).slice(0, MOST_BARS);
  const label = element("p", prediction.label, prediction.known === false ? "label unknown" : "label");
  const notes = { true: "known", false: "not known: the student has not learnt such texts" };
  const parts = [percent(prediction.probability), notes[prediction.known], `energy ${prediction.energy.toFixed(2)}`];
  const bars = element("ul");
  for (const [name, share] of rows) {
    const row = element("li");
    const bar = element("span", "", "bar");
    bar.append(element("span"));
    bar.firstChild.style.width = percent(share).replace(" ", "");
    row.append(element("span", name, "name"), bar, element("span", percent(share), "share"));
    bars.append(row);
  }
  answer.replaceChildren(label, element("p", parts.filter(Boolean).join(" · "), "facts"), bars);
}

try {
  const student = await Student.load();
  window.student = student;
  document.title = student.name;
  document.querySelector("h1").textContent = student.name;
  document.querySelector("#labels").textContent = `Labels: ${student.labels.join(", ")}`;
  for (const { name, description } of student.fields) {
    const label = element("label", name);
    const box = element("textarea");
    Object.assign(box, { name, rows: student.fields.length > 1 ? 3 : 5, required: true, placeholder: description });
    box.addEventListener("keydown", (event) => {
      if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) form.requestSubmit();
    });
    label.append(box);
    form.insertBefore(label, form.lastElementChild);
  }
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    const started = performance.now();
    show(await student.predict(Object.fromEntries(new FormData(form))));
    status.textContent = `${Math.round(performance.now() - started)} ms in this browser; no text leaves it`;
  });
  form.hidden = false;
  form.querySelector("textarea").focus();
  status.textContent = "Ready. Ctrl+Enter asks, too.";
} catch (error) {
  status.textContent = `The student cannot be loaded: ${error.message}`;
}
