// The only file that names an engine: this page computes by itself.
import { OnnxEngine } from "./onnx_engine.js";
import { start } from "./viewer.js";

globalThis.viewer = start(new OnnxEngine());
