/** Vega and Vega-Lite charts; expressions are interpreted, so that no content security policy needs unsafe-eval. */
import embed, { type Result } from "vega-embed";
import { expressionInterpreter } from "vega-interpreter";
import { isDark, keepChart, themeColours } from "./charts";
import { about, make, type Renderer } from "./types";

/** Text and lines in the colours of the page, and no sheet under the chart. What a chart says itself goes before. */
function themedConfig(): Record<string, any> {
  const { text, muted, line } = themeColours("text", "muted", "line");
  const font = { fill: text };
  return {
    background: "transparent",
    style: { "guide-label": font, "guide-title": font, "group-title": font, "group-subtitle": font },
    axis: { domainColor: muted, gridColor: line, tickColor: muted },
    title: { color: text, subtitleColor: muted },
    header: { labelColor: text, titleColor: text },
    text: { color: text },
    rule: { color: text },
    view: { stroke: line },
  };
}

export const vega: Renderer = async (element, bundle, mime, _, attach) => {
  const spec = bundle.data[mime] as any;
  if (!spec || typeof spec !== "object") throw new Error("this is no chart");
  const plain = spec.background ?? spec.config?.background;
  const options = {
    ...(about(bundle, mime)["embed_options"] as object | undefined),
    mode: mime.includes("vegalite") ? "vega-lite" : "vega",
    actions: false,
    defaultStyle: false,
    renderer: "svg",
    ast: true,
    expr: expressionInterpreter,
  } as const;
  let drawn: Result | undefined;
  let plot: HTMLElement | undefined;
  const show = async (): Promise<void> => {
    const next = make("div", plot ? "plot drawing" : "plot");
    element.append(next);
    attach(); // it measures the place it gets
    const theme = isDark() ? "dark" : "light";
    const colours = plain || theme === "light" ? { background: "transparent" } : themedConfig();
    // Vega writes into what it gets, and a chart is drawn again when the theme changes.
    const result = await embed(next, structuredClone(spec), { ...options, config: colours, tooltip: { theme } });
    drawn?.finalize();
    plot?.remove();
    next.classList.remove("drawing");
    [drawn, plot] = [result, next];
  };
  await show();
  keepChart(element, { recolour: show, dispose: () => drawn?.finalize() });
};
