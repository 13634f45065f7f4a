/** Starts the page: which backend, which state, and the window drawn from it. */
import { mount } from "svelte";
import App from "./App.svelte";
import { connect } from "./backend";
import "./styles/tokens.css";
import "./styles/base.css";
import { Workspace } from "./workspace.svelte.ts";

const target = document.getElementById("app");
if (target) {
  void connect().then((backend) => {
    mount(App, { target, props: { workspace: new Workspace(backend) } });
  });
}

if (import.meta.env.MODE === "fake") {
  void import("./backend/fake.ts").then(({ act }) => act(new URLSearchParams(location.search)));
}
