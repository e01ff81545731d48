import { render } from "preact";
import { App } from "./app";
import { applyTheme, readTheme } from "./memory";
import "./styles/base.css";
import "./styles/buttons.css";
import "./styles/parts.css";
import "./styles/tables.css";
import "./styles/forms.css";
import "./styles/graph.css";
import "./styles/run.css";

applyTheme(readTheme());
const root = document.getElementById("app");
if (root) render(<App />, root);
