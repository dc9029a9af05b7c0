/** Charts stored in a page: drawn when the reader comes near them; until then the picture or text in their place stays. */
import { draw } from "./mime";
import type { DrawContext, MimeBundle } from "./types";

const NEAR = "800px 0px";
const CONTEXT: DrawContext = { widgets: null };
const BOKEH_LOAD = '.chart[data-mime*="bokehjs_load"]';

const drawn = new WeakMap<Element, Promise<void>>();

/** Draws each stored chart below `root` when it comes near the window. */
export function drawStored(root: ParentNode = document): void {
  const observer = new IntersectionObserver(
    (entries) => {
      for (const { isIntersecting, target } of entries) {
        if (!isIntersecting) continue;
        observer.unobserve(target);
        void drawOnce(target as HTMLElement);
      }
    },
    { rootMargin: NEAR },
  );
  for (const script of root.querySelectorAll(".data.chart > script[type$=json]")) observer.observe(script.parentElement!);
}

function drawOnce(chart: HTMLElement): Promise<void> {
  let done = drawn.get(chart);
  if (!done) drawn.set(chart, (done = drawInPlace(chart)));
  return done;
}

async function drawInPlace(chart: HTMLElement): Promise<void> {
  const mime = chart.dataset["mime"]!;
  // A script that loads Bokeh may hold it, so it goes before the charts.
  if (mime.includes("bokehjs_exec")) await Promise.all([...document.querySelectorAll<HTMLElement>(BOKEH_LOAD)].map(drawOnce));
  const bundle = storedBundle(chart, mime);
  if (!bundle) return;
  const element = await draw(bundle, CONTEXT, (attached) => {
    attached.classList.add("drawing");
    chart.before(attached);
  });
  if (element.dataset["mime"] !== mime) return element.remove(); // what the page shows already is better than another type
  element.classList.remove("drawing");
  chart.remove();
}

function storedBundle(chart: HTMLElement, mime: string): MimeBundle | null {
  try {
    const script = chart.querySelector(":scope > script[type$=json]")!;
    const html = chart.querySelector(':scope > .data[data-mime="text/html"]')?.innerHTML; // where a Bokeh chart is to be
    return { data: { [mime]: JSON.parse(script.textContent), ...(html ? { "text/html": html } : {}) }, metadata: {} };
  } catch (error) {
    console.warn("A stored chart could not be read.", error);
    return null;
  }
}
