// Hides the curves and rows of the retention section that the reader does not ask for.
"use strict";
(() => {
  const form = document.getElementById("curves");
  const names = ["documents", "method", "model", "text"];
  const field = (name) => form.elements.namedItem(name);
  const elements = [...document.querySelectorAll("#retention :is([data-method],[data-text])")];
  const rows = [...document.querySelectorAll("#retention .means tbody tr")];
  form.hidden = false;
  // A link to the page can carry a view: #documents=5&method=mass
  new URLSearchParams(location.hash.slice(1)).forEach((value, name) => {
    if (names.includes(name) && [...field(name).options].some((option) => option.value === value)) field(name).value = value;
  });
  const update = () => {
    // What does not say a name is the same for all of its values: a draw looks at no documents.
    const asked = ({ dataset }) => names.every((name) => !field(name).value || !dataset[name] || dataset[name] === field(name).value);
    for (const element of elements) element.toggleAttribute("hidden", !asked(element));
    const chosen = document.getElementById("chosen-by");
    if (chosen) chosen.textContent = field("documents").selectedOptions[0].textContent;
    document.getElementById("shown").textContent = `${rows.filter((row) => !row.hidden).length} of ${rows.length} curves`;
  };
  form.addEventListener("input", () => {
    update();
    const view = new URLSearchParams(location.hash.slice(1));
    for (const name of names) {
      if (field(name).value) view.set(name, field(name).value);
      else view.delete(name);
    }
    history.replaceState(null, "", `#${view}`);
  });
  form.addEventListener("submit", (event) => event.preventDefault());
  update();
})();
