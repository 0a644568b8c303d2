// The only file that names an engine: this page is computed by the server that sent it.
import { HttpEngine } from "./http_engine.js";
import { start } from "./viewer.js";

globalThis.viewer = start(new HttpEngine());
