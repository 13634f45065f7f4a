/** For tests only: a busy machine takes its time, and waiting longer costs only what fails. */
import { configure } from "@testing-library/svelte";

configure({ asyncUtilTimeout: 10_000 });
