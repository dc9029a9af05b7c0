/** application/vnd.plotly.v1+json */
import Plotly from "plotly.js-dist-min";
import { isDark, isLight, keepChart, themeColours } from "./charts";
import { loadOutlines, topojsonURL } from "./outlines";
import { make, type Renderer } from "./types";

interface Figure {
  data: any[];
  layout: Record<string, any>;
  config: Record<string, any>;
  frames: any[];
}

function figureOf(value: any): Figure {
  if (!value || typeof value !== "object" || !Array.isArray(value.data)) throw new Error("this is no Plotly figure");
  return { data: value.data, layout: value.layout ?? {}, config: value.config ?? {}, frames: value.frames ?? [] };
}

/**
 * The layout for the theme of the page: no sheet of paper under the chart, and on a dark page light text and quiet lines.
 * An author who chose a background, or a template that has a dark one, gets the figure as it was made.
 */
export function themedLayout(layout: Record<string, any>, dark: boolean): Record<string, any> {
  const template = layout["template"]?.layout ?? {};
  const themed: Record<string, any> = { uirevision: "kept", autosize: !layout["width"], ...layout };
  if (layout["paper_bgcolor"] ?? layout["plot_bgcolor"]) return themed;
  if (template["paper_bgcolor"] && !isLight(template["paper_bgcolor"])) return themed;
  themed["template"] = { ...layout["template"], layout: { ...template, paper_bgcolor: "rgba(0,0,0,0)", ...(dark ? darkTemplate(template) : {}) } };
  return themed;
}

function darkTemplate(template: Record<string, any>): Record<string, any> {
  const { surface, text, muted, line } = themeColours("surface", "text", "muted", "line");
  const axis = { gridcolor: line, linecolor: muted, zerolinecolor: muted, tickcolor: muted };
  const over = (name: string, values: object): Record<string, any> => ({ [name]: { ...template[name], ...values } });
  const axes = (name: string, names: string[], values: object, bgcolor = surface): Record<string, any> => {
    const own = template[name] ?? {};
    return { [name]: { ...own, bgcolor, ...Object.fromEntries(names.map((each) => [each, { ...own[each], ...values }])) } };
  };
  return {
    plot_bgcolor: surface,
    ...over("font", { color: text }),
    ...over("xaxis", axis),
    ...over("yaxis", axis),
    ...axes("polar", ["angularaxis", "radialaxis"], axis),
    ...axes("ternary", ["aaxis", "baxis", "caxis"], axis),
    ...axes("scene", ["xaxis", "yaxis", "zaxis"], { ...axis, backgroundcolor: surface }, "rgba(0,0,0,0)"),
    ...over("geo", { bgcolor: "rgba(0,0,0,0)", lakecolor: surface, landcolor: surface, subunitcolor: line }),
    ...over("annotationdefaults", { arrowcolor: text }),
    ...over("shapedefaults", { line: { color: muted } }),
    ...over("updatemenudefaults", { bgcolor: "#dddddd", font: { color: "#222222" } }), // Plotly has a fixed light colour for active ones
    ...over("sliderdefaults", { bgcolor: line, bordercolor: muted }),
    modebar: { bgcolor: "rgba(0,0,0,0)", color: muted, activecolor: text },
  };
}

export const plotly: Renderer = async (element, bundle, mime, _, attach) => {
  let figure = figureOf(bundle.data[mime]);
  const plot = element.appendChild(make("div", "plot"));
  attach(); // it measures the place it gets
  const show = async (): Promise<void> => {
    await loadOutlines(figure);
    const { data, layout, frames } = figure;
    const config = { responsive: true, displaylogo: false, topojsonURL, ...figure.config };
    plot.classList.toggle("fluid", !layout["height"]);
    await Plotly.react(plot, data, themedLayout(layout, isDark()), config);
    if (frames.length) await Plotly.addFrames(plot, frames);
  };
  await show();
  keepChart(element, {
    update: async (value) => {
      figure = figureOf(value);
      await show();
    },
    recolour: show,
    dispose: () => Plotly.purge(plot),
  });
};
