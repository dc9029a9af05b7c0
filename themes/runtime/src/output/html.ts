/** Trusted HTML and scripts in the page: scripts run one after the other, as a parser runs them. */
import { asText, about, make, type Renderer } from "./types";

const RUNNABLE = /^(|module|(text|application)\/(x-)?(java|ecma)script)$/i;
const SLOW_MS = 10_000;
const DATA_FRAME = /<table\b[^>]{0,500}(?:\bdataframe\b|\bid="?T_)/;

/** One queue for the page: what an output loads is there for the outputs after it, as in a page that is read from the start. */
let queue: Promise<unknown> = Promise.resolve();
let count = 0;

function enqueue<T>(work: () => Promise<T>): Promise<T> {
  const done = queue.then(work);
  queue = done.catch(() => {});
  return done;
}

/** Puts HTML into an element, which should stand in the page when it has scripts; resolves when they have run. */
export function insertHtml(element: HTMLElement, html: string): Promise<void> {
  const template = make("template");
  template.innerHTML = html;
  const scripts = [...template.content.querySelectorAll("script")].filter((script) => RUNNABLE.test(script.type));
  element.replaceChildren(template.content);
  if (!scripts.length) return Promise.resolve();
  return enqueue(async () => {
    for (const script of scripts) await rerun(script);
  });
}

/** A script that a template has parsed never runs, a copy of it does as soon as it stands in the page. */
async function rerun(parsed: HTMLScriptElement): Promise<void> {
  if (!parsed.isConnected) return;
  const script = make("script");
  for (const { name, value } of parsed.attributes) script.setAttribute(name, value);
  script.textContent = parsed.textContent;
  const waits = script.src && !parsed.hasAttribute("async");
  script.async = false;
  const loaded = waits ? new Promise((done) => (script.onload = script.onerror = done)) : undefined;
  parsed.replaceWith(script);
  if (loaded) await Promise.race([loaded, new Promise((done) => setTimeout(done, SLOW_MS))]);
}

/** Runs code that finds its element as `element`; rejects with the error it throws. */
export function runScript(code: string, element: HTMLElement): Promise<void> {
  return enqueue(async () => {
    const id = (element.id ||= `output-live-${++count}`);
    let failure: unknown;
    const failed = (event: ErrorEvent): void => {
      failure ??= event.error ?? event.message;
      event.preventDefault();
    };
    addEventListener("error", failed);
    const script = make("script");
    script.textContent = `(function (element) {\n${code}\n}).call(window, document.getElementById("${id}"));`;
    element.after(script); // it runs here
    script.remove();
    removeEventListener("error", failed);
    if (failure !== undefined) throw failure instanceof Error ? failure : new Error(String(failure));
  });
}

/** text/html */
export const html: Renderer = (element, bundle, mime, _, attach) => {
  const source = asText(bundle.data[mime]);
  if (about(bundle, mime)["isolated"] || bundle.metadata["isolated"]) {
    const frame = make("iframe");
    frame.setAttribute("sandbox", "allow-scripts");
    frame.title = "Output";
    frame.srcdoc = source;
    element.append(frame);
    return;
  }
  if (DATA_FRAME.test(source)) {
    element.tabIndex = 0;
    element.setAttribute("role", "region");
    element.setAttribute("aria-label", "Table");
  }
  attach();
  // Not awaited: what the reader waits for is there, and a script may take its time.
  insertHtml(element, source).catch((error: unknown) => console.warn("A script of an output failed.", error));
};

/** application/javascript */
export const javascript: Renderer = (element, bundle, mime, _, attach) => {
  attach();
  return runScript(asText(bundle.data[mime]), element);
};
