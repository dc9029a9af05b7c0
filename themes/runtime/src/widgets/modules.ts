/** Where the classes of a widget module come from: this bundle, the model itself (anywidget), or an AMD file of the site. */
import * as base from "@jupyter-widgets/base";
import * as controls from "@jupyter-widgets/controls";
import { loadAmd } from "./amd";
import * as anywidget from "./anywidget";
import { WidgetError } from "./notes";
import * as output from "./output";
import { FileUploadView } from "./upload";

type Module = Record<string, any>;

const bundled: Record<string, Module> = {
  "@jupyter-widgets/base": base,
  "@jupyter-widgets/controls": { ...controls, FileUploadView },
  "@jupyter-widgets/output": output,
  anywidget,
};

/** Python packages whose widget module has another name. */
const PACKAGES: Record<string, string> = {
  "@bokeh/jupyter_bokeh": "jupyter_bokeh",
  "jupyter-cytoscape": "ipycytoscape",
  "jupyter-leaflet": "ipyleaflet",
  "jupyter-matplotlib": "ipympl",
  "jupyter-threejs": "pythreejs",
  "jupyter-vue": "ipyvue",
  "jupyter-vuetify": "ipyvuetify",
  "jupyterlab-plotly": "plotly",
  "nglview-js-widgets": "nglview",
};

const NAME = /^(?:@[\w~-][\w.~-]*\/)?[\w~-][\w.~-]*$/;

/** The exports of a widget module; rejects with a sentence for the reader when the site does not have it. */
export async function loadModule(name: string, version: string): Promise<Module> {
  const own = Object.hasOwn(bundled, name) ? bundled[name] : undefined;
  if (own) return own;
  if (!NAME.test(name)) throw new WidgetError("This widget comes from a module with an impossible name.");
  const folder = new URL(`./nbextensions/${name}/`, import.meta.url);
  // The version makes a browser ask again after an upgrade: the file keeps its name, and files in this folder are cached for long.
  const url = new URL(`index.js?${encodeURIComponent(version)}`, folder);
  try {
    return await loadAmd(url.href, (wanted) => loadModule(wanted, ""));
  } catch (error) {
    if (error instanceof WidgetError) throw error;
    console.error(error);
    const python = PACKAGES[name] ?? name;
    throw new WidgetError(
      `This widget comes from the module ${name}, which this site does not have. `
      + `It needs the Python package ${python} where the site is built.`,
    );
  }
}
