/**
 * Bokeh charts, `application/vnd.bokehjs_exec.v0+json` and `.._load.v0+json`.
 *
 * A chart is a script that needs the BokehJS of the Python package it was made with. The site holds the files of the version
 * that was installed where it was built, in `assets/bokeh/<version>/`; nothing is fetched from elsewhere in their place.
 */
import { keepChart } from "./charts";
import { insertHtml, runScript } from "./html";
import { about, asText, make, type Renderer } from "./types";

declare global {
  interface Window {
    Bokeh?: any;
  }
}

/** A version number, as it may stand in a URL. */
const VERSION = String.raw`(\d+\.\d+\.\d+(?:[.-]?(?:dev|rc|a|b)[.\d]*)?)`;
/** One entry of the list of addresses in a script that loads BokehJS. */
const ADDRESS = new RegExp(String.raw`"https://cdn\.bokeh\.org/bokeh/(?:release|dev)/bokeh(?:-\w+)?-${VERSION}(?:\.min)?\.js"(?:,\s*)?`, "g");
const DOCUMENTS = /^\s*(?:const|var|let) docs_json = (?:'([^\n]*)'|(\{[^\n]*\}));$/m;

/** The folder of this module, which is the one of all assets. */
const ASSETS = new URL(".", import.meta.url);

const loading = new Map<string, Promise<void>>();
/** Charts come one after the other: `window.Bokeh` is the version of the one that is drawn. */
let turn: Promise<unknown> = Promise.resolve();

function load(version: string, component: string): Promise<void> {
  const url = new URL(`bokeh/${version}/${component}.min.js`, ASSETS).href;
  let loaded = loading.get(url);
  if (!loaded) {
    loaded = new Promise<void>((resolve, reject) => {
      const script = make("script");
      script.onload = () => resolve();
      script.onerror = () => reject(new MissingBokeh(version));
      script.src = url;
      document.head.append(script);
    });
    loading.set(url, loaded);
    loaded.catch(() => loading.delete(url));
  }
  return loaded;
}

class MissingBokeh extends Error {
  constructor(version: string) {
    super(`This chart was made with Bokeh ${version}, and this site has no files of that version.`);
  }
}

/** BokehJS of a version, with what the models of a chart need; `window.Bokeh` is that one afterwards. */
async function bokehOf(version: string, documents: string): Promise<any> {
  const there = (): any => [window.Bokeh, window.Bokeh?.[version]].find((bokeh) => bokeh?.version === version);
  if (!there()) {
    const other = window.Bokeh;
    window.Bokeh = undefined; // beside another version it would hide behind that
    try {
      await load(version, "bokeh");
    } finally {
      window.Bokeh ??= other;
    }
  }
  const bokeh = there();
  if (!bokeh) throw new MissingBokeh(version);
  window.Bokeh = bokeh;
  for (const component of componentsFor(bokeh, documents)) await load(version, component);
  return bokeh;
}

/** The parts of BokehJS that a chart needs beside the core. */
function componentsFor(bokeh: any, documents: string): string[] {
  const names: unknown = bokeh.Models?.names ?? bokeh.Models?.registered_names;
  const known = new Set<string>(typeof names === "function" ? names.call(bokeh.Models) : names);
  const used = documents.matchAll(/"type":"object","name":"([\w.]+)"|"type":"([A-Z]\w+)"/g);
  const models = [...new Set([...used].map(([, name, old]) => name ?? old!))].filter((name) => !known.has(name));
  const tables = models.some((name) => /Table|Cell|Slick|Grouping|Formatter|Editor|DataCube/.test(name));
  const components: string[] = [];
  if (models.some((name) => !/^(Math|TeX|Ascii)/.test(name))) components.push("bokeh-widgets");
  if (tables) components.push("bokeh-tables");
  if (documents.includes('"output_backend":"webgl"')) components.push("bokeh-gl");
  if (/"(?:TeX|MathML|Ascii)"|\$\$|\\\\[[(]/.test(documents)) components.push("bokeh-mathjax");
  return components;
}

/** The documents of a chart as JSON, and the version of Bokeh that wrote them. */
function documentsOf(code: string): { documents: string; version: string } {
  const match = DOCUMENTS.exec(code);
  const documents = match?.[2] ?? match?.[1] ?? "";
  try {
    const [first] = Object.values<any>(JSON.parse(documents));
    if (new RegExp(`^${VERSION}$`).test(first.version)) return { documents, version: first.version };
  } catch {
    // the message below says enough
  }
  throw new Error("This output is no Bokeh chart that can be read.");
}

/** What loads BokehJS in a notebook: here the files of this site; for the rest of it, such as its own code, it runs. */
async function start(code: string, element: HTMLElement): Promise<void> {
  const [address] = code.matchAll(ADDRESS);
  if (address) {
    await bokehOf(address[1]!, "");
    code = code.replace(ADDRESS, "");
  }
  await runScript(code, element);
}

async function chart(code: string, id: unknown, element: HTMLElement): Promise<void> {
  const { documents, version } = documentsOf(code);
  const bokeh = await bokehOf(version, documents);
  await runScript(code, element);
  const dispose = (): void => {
    const view = bokeh.index?.get_by_id?.(id);
    view?.model.document?.clear();
    if (view) bokeh.index.delete(view);
  };
  keepChart(element, { dispose });
}

export const bokeh: Renderer = async (element, bundle, mime, _, attach) => {
  const code = asText(bundle.data[mime]) || asText(bundle.data["application/javascript"]);
  const html = asText(bundle.data["text/html"]);
  element.classList.add("chart");
  attach();
  if (!code && !html) throw new Error("this is no Bokeh chart");
  if (!code) return insertHtml(element, html); // of a Bokeh server
  element.innerHTML = html;
  try {
    const work = (): Promise<void> =>
      mime.includes("load") ? start(code, element) : chart(code, about(bundle, mime)["id"], element);
    const done = turn.then(work);
    turn = done.catch(() => {});
    await done;
  } catch (error) {
    // No other type of the bundle is any better: they are the same script, which would fetch BokehJS from elsewhere.
    console.warn(error);
    if (mime.includes("exec")) element.append(make("p", "note", error instanceof Error ? error.message : String(error)));
  }
};
