/** Widget state as notebooks keep it, brought to what the bundled classes of ipywidgets 8 expect. */
import type { Content } from "../live/protocol";
import { WidgetError } from "./notes";

const CONTROLS = "@jupyter-widgets/controls";
const BASE = "@jupyter-widgets/base";

type Values = Record<string, any>;

interface Model {
  model_name: string;
  model_module: string;
  model_module_version: string;
  state: Values;
  buffers?: unknown[];
}

/** State of `version_major` 2 with what ipywidgets 7 called otherwise under its new name; throws when it is none. */
export function currentState(stored: unknown): Content {
  const state = stored as { version_major?: unknown; state?: unknown } | null;
  if (state?.version_major !== 2 || typeof state.state !== "object" || !state.state) {
    throw new WidgetError("The widgets were stored in a form that this site does not know.");
  }
  const models = Object.entries(state.state as Record<string, Model>).filter(([, model]) => isModel(model));
  return { version_major: 2, version_minor: 0, state: Object.fromEntries(models.map(([id, model]) => [id, current(model)])) };
}

function isModel(model: Model | null): boolean {
  return typeof model?.model_name === "string" && typeof model.model_module === "string" && typeof model.state === "object" && !!model.state;
}

function current(model: Model): Model {
  const major = Number.parseInt(String(model.model_module_version).replace(/^\D*/, ""), 10);
  if (model.model_module === CONTROLS && major === 1) return { ...model, state: control(model.model_name, model.state) };
  if (model.model_module === BASE && major === 1) return { ...model, state: layout(model.state) };
  return model;
}

function control(name: string, old: Values): Values {
  const state: Values = { ...old };
  if (typeof state["description_tooltip"] === "string") state["tooltip"] ??= state["description_tooltip"];
  if ("description" in state) state["description_allow_html"] ??= true; // it always did
  if (state["_titles"]) {
    const last = Math.max(-1, ...Object.keys(state["_titles"]).map(Number));
    state["titles"] ??= Array.from({ length: Math.max(last + 1, state["children"]?.length ?? 0) }, (_, index) => state["_titles"][index] ?? "");
  }
  if ((name === "AccordionModel" || name === "TabModel") && !("selected_index" in state)) state["selected_index"] = 0; // by default
  if (name === "PlayModel") {
    state["playing"] ??= state["_playing"] ?? false;
    state["repeat"] ??= state["_repeat"] ?? false;
  }
  if (name === "FileUploadModel") state["value"] = []; // it was stored in several parts
  return state;
}

function layout(old: Values): Values {
  const state: Values = { ...old };
  for (const side of ["top", "right", "bottom", "left"]) state[`border_${side}`] ??= old["border"] ?? null;
  state["overflow"] ??= old["overflow_x"] ?? old["overflow_y"] ?? null;
  return state;
}
