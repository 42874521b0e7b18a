// Filters, sorts and recolours the clusters that stand in the page, and reads out the experts under the pointer.
"use strict";
(() => {
  const models = JSON.parse(document.getElementById("data").textContent);
  const HUE = 137.508;
  const visible = (text) => text.replaceAll("\n", "↵ ").replaceAll("\t", " ").replaceAll("\r", "");

  // A context as the page without script shows it, in the colours of one layer.
  const colour = (element, context, ordinal) => {
    const experts = context.experts[ordinal];
    const parts = [element.querySelector(".from")];
    for (let start = 0; start < context.pieces.length; ) {
      let end = start + 1;
      const own = start === context.at;
      while (!own && end < context.pieces.length && end !== context.at && experts[end] === experts[start]) end += 1;
      const part = document.createElement(own ? "mark" : "span");
      part.className = "t";
      part.style.setProperty("--hue", ((experts[start] * HUE) % 360).toFixed(0));
      part.title = `expert ${experts[start]}`;
      part.textContent = visible(context.pieces.slice(start, end).join(""));
      parts.push(part);
      start = end;
    }
    element.replaceChildren(...parts);
  };

  const main = (cluster, domains) => {
    let best = 0;
    cluster.domains.forEach((count, index) => {
      if (count > cluster.domains[best]) best = index;
    });
    return { name: domains[best] ? domains[best].name : "", share: (cluster.domains[best] || 0) / Math.max(1, cluster.tokens) };
  };

  const entries = [];
  for (const list of document.querySelectorAll(".clusters")) {
    const model = models[Number(list.dataset.model)];
    for (const element of list.querySelectorAll(".cluster")) {
      const cluster = model.clusters.clusters[Number(element.dataset.index)];
      const text = [cluster.name, ...cluster.terms.concat(cluster.characters).map((term) => term.text), ...cluster.contexts.map((c) => c.pieces.join(""))];
      entries.push({
        list, element, cluster, model,
        main: main(cluster, model.sample.domains),
        text: text.join("\n").toLowerCase(),
      });
    }
  }

  const form = document.getElementById("controls");
  if (form) {
    form.hidden = false;
    const field = (name) => form.elements.namedItem(name);
    // A link to the page can carry a view: #q=word&domain=code&sort=purity&layer=0
    new URLSearchParams(location.hash.slice(1)).forEach((value, name) => {
      if (field(name)) field(name).value = value;
    });
    const order = {
      tokens: (a, b) => b.cluster.tokens - a.cluster.tokens,
      purity: (a, b) => b.main.share - a.main.share,
      silhouette: (a, b) => b.cluster.silhouette - a.cluster.silhouette,
      name: (a, b) => a.cluster.name.localeCompare(b.cluster.name),
    };
    let layer = null;
    const update = () => {
      const wanted = { q: field("q").value.toLowerCase(), domain: field("domain").value, sort: field("sort").value, layer: field("layer").value };
      let shown = 0;
      for (const entry of entries) {
        entry.element.hidden = !(entry.text.includes(wanted.q) && (!wanted.domain || entry.main.name === wanted.domain));
        if (!entry.element.hidden) shown += 1;
      }
      for (const entry of [...entries].sort(order[wanted.sort] || order.tokens)) entry.list.append(entry.element);
      if (wanted.layer !== layer) {
        layer = wanted.layer;
        for (const { element, cluster, model } of entries) {
          const ordinal = model.layers.findIndex((found) => String(found.layer) === layer);
          if (ordinal < 0) continue;
          for (const excerpt of element.querySelectorAll(".excerpt")) {
            colour(excerpt, cluster.contexts[Number(excerpt.dataset.place)], ordinal);
          }
        }
      }
      document.getElementById("count").textContent = `${shown} of ${entries.length} clusters`;
    };
    form.addEventListener("input", () => {
      update();
      const view = new URLSearchParams(location.hash.slice(1));
      for (const [name, value] of new FormData(form)) {
        if (value) view.set(name, value);
        else view.delete(name);
      }
      history.replaceState(null, "", `#${view}`);
    });
    form.addEventListener("submit", (event) => event.preventDefault());
    update();
  }

  for (const picture of document.querySelectorAll("svg.experts")) {
    const layer = models[Number(picture.dataset.model)].layers[Number(picture.dataset.ordinal)];
    const order = picture.dataset.order.split(" ").map(Number);
    const readout = picture.closest("figure").querySelector(".readout");
    picture.addEventListener("mousemove", (event) => {
      const box = picture.querySelector(".cells").getBoundingClientRect();
      const a = order[Math.floor(((event.clientY - box.top) / box.height) * order.length)];
      const b = order[Math.floor(((event.clientX - box.left) / box.width) * order.length)];
      if (a === undefined || b === undefined) return;
      readout.textContent = `layer ${layer.layer}, experts ${a} and ${b}: ${layer.redundancy.cka[a][b].toFixed(4)}`;
    });
  }

  // On paper everything is open.
  let closed = [];
  addEventListener("beforeprint", () => {
    closed = [...document.querySelectorAll("details:not([open])")];
    closed.forEach((element) => (element.open = true));
  });
  addEventListener("afterprint", () => closed.forEach((element) => (element.open = false)));
})();
