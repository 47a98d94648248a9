// Draws the surfaces that are in sight, and takes away the others: a phone's browser keeps eight such drawings at a time.
"use strict";
const CONFIG = {
  responsive: true, displaylogo: false, showSendToCloud: false, plotlyServerURL: "", // nothing leaves the page
  modeBarButtonsToRemove: ["orbitRotation", "tableRotation", "resetCameraLastSave3d"], // dragging turns anyway
};

async function unpacked() {
  const bytes = Uint8Array.from(atob(document.getElementById("plotly").textContent), (byte) => byte.charCodeAt(0));
  const text = new Response(new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"))).text();
  const script = document.createElement("script");
  script.textContent = await text;
  document.head.append(script);
}

const figures = new Map(); // kept, for a figure remembers how it was turned
const plotly = unpacked();

async function follow(seen) {
  await plotly;
  for (const { target, isIntersecting } of seen) {
    if (!isIntersecting) { Plotly.purge(target); continue; }
    if (!figures.has(target)) figures.set(target, JSON.parse(target.nextElementSibling.textContent));
    const { data, layout } = figures.get(target);
    Plotly.newPlot(target, data, layout, CONFIG);
  }
}

plotly.then(() => {
  const sight = new IntersectionObserver(follow, { rootMargin: "50%" });
  for (const surface of document.querySelectorAll(".surface")) sight.observe(surface);
}, (error) => {
  document.getElementById("unturned").textContent =
    `This browser cannot draw what turns (${error.message}); below, surfaces are seen from above.`;
});
