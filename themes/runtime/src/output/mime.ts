/** A MIME bundle as an element: the best of its types that can be drawn. Heavy libraries load when they are first needed. */
import { html, javascript } from "./html";
import { image } from "./image";
import { textHtml } from "./stream";
import { asText, make, preformatted, type DrawContext, type MimeBundle, type Renderer } from "./types";

const widget: Renderer = async (element, bundle, mime, { widgets }, attach) => {
  const view = bundle.data[mime] as { model_id?: unknown } | null;
  if (!widgets || typeof view?.model_id !== "string") throw new Error("there are no widgets here");
  element.classList.add("widget");
  attach();
  await widgets(view.model_id, element);
};

const plain: Renderer = (element, bundle, mime) => {
  if (typeof bundle.data[mime] !== "string" && !Array.isArray(bundle.data[mime])) throw new Error("this is no text");
  element.append(preformatted(textHtml(asText(bundle.data[mime]))));
};

const plotly: Renderer = async (...all) => (await import("./plotly")).plotly(...all);
const vega: Renderer = async (...all) => (await import("./vega")).vega(...all);
const bokeh: Renderer = async (...all) => (await import("./bokeh")).bokeh(...all);
const markdown: Renderer = async (...all) => (await import("./markdown")).markdown(...all);
const latex: Renderer = async (...all) => (await import("./latex")).latex(...all);
const json: Renderer = async (...all) => (await import("./json")).json(...all);

const VEGA = /^application\/vnd\.vega(lite\.v[2-6]|\.v[3-6])\+json$/;

/** Best first: JupyterLab's order, and the builder's. */
const RENDERERS: readonly (readonly [RegExp, Renderer])[] = [
  [/^application\/vnd\.jupyter\.widget-view\+json$/, widget],
  [/^application\/vnd\.plotly\.v1\+json$/, plotly],
  [VEGA, vega],
  [/^application\/vnd\.bokehjs_(exec|load)\.v0\+json$/, bokeh],
  [/^(application|text)\/(javascript|ecmascript)$/, javascript],
  [/^text\/html$/, html],
  [/^text\/markdown$/, markdown],
  [/^image\/svg\+xml$/, image],
  [/^text\/latex$/, latex],
  ...["png", "jpeg", "gif", "webp", "bmp", "avif"].map((kind) => [new RegExp(`^image/${kind}$`), image] as const),
  [/^application\/json$/, json],
  [/^text\/plain$/, plain],
  [/^text\//, plain],
];

/** The types of a bundle that can be drawn, best first. */
export function ranked(bundle: MimeBundle): [mime: string, renderer: Renderer][] {
  const types = Object.keys(bundle.data);
  return RENDERERS.flatMap(([pattern, renderer]) =>
    types.filter((mime) => pattern.test(mime)).map((mime): [string, Renderer] => [mime, renderer]),
  ).filter(([mime], at, all) => all.findIndex(([other]) => other === mime) === at);
}

/** How the HTML ends in which Altair, unless told otherwise, wraps a chart for a library from elsewhere: specification, options. */
const ALTAIR = /\n\s*\}\)\((\{.*\}), (\{.*\})\);\s*<\/script>\s*$/;
const SCHEMA = /\/(vega(?:-lite)?)\/v(\d)/;

/** The bundle with a chart in place of HTML that would load a library to draw just that. */
export function withoutLoaders(bundle: MimeBundle): MimeBundle {
  const source = asText(bundle.data["text/html"]);
  const match = source.includes("vega-embed") ? ALTAIR.exec(source) : null;
  if (!match) return bundle;
  try {
    const [spec, embed_options] = [JSON.parse(match[1]!), JSON.parse(match[2]!)];
    const [, kind, version] = SCHEMA.exec(spec.$schema)!;
    const mime = `application/vnd.${kind!.replace("-", "")}.v${version}+json`;
    if (!VEGA.test(mime)) return bundle;
    const { "text/html": _, ...others } = bundle.data;
    return { data: { [mime]: spec, ...others }, metadata: { ...bundle.metadata, [mime]: { embed_options } } };
  } catch {
    return bundle;
  }
}

/**
 * The `.data` element of a bundle; never rejects. A type that cannot be drawn gives way to the next, and the title says so.
 *
 * `attach` puts an element into the page, maybe before it is finished and maybe one that is removed again.
 */
export async function draw(bundle: MimeBundle, context: DrawContext, attach: (element: HTMLElement) => void = () => {}): Promise<HTMLElement> {
  const failures: string[] = [];
  bundle = withoutLoaders(bundle);
  for (const [mime, renderer] of ranked(bundle)) {
    const element = make("div", "data");
    element.dataset["mime"] = mime;
    let attached = false;
    const attachOnce = (): void => {
      if (!attached) attach(element);
      attached = true;
    };
    try {
      await renderer(element, bundle, mime, context, attachOnce);
      attachOnce();
      if (failures.length) element.title = failures.join("\n");
      return element;
    } catch (error) {
      element.remove();
      failures.push(`${mime} could not be drawn: ${error instanceof Error ? error.message : String(error)}`.slice(0, 500));
      console.warn(failures.at(-1), error);
    }
  }
  const element = make("div", "data");
  const types = Object.keys(bundle.data).map((mime) => mime.slice(0, 100)).sort().slice(0, 10).join(", ");
  if (types) element.append(make("p", "note", `This output cannot be shown here (${types}).`));
  if (failures.length) element.title = failures.join("\n");
  attach(element);
  return element;
}
