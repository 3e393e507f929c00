import { writeFile } from "node:fs/promises";
import { settingsPage } from "../services/settings-page.ts";

// Writes the reference of all settings; a part of `npm run gen`.
await writeFile(new URL("../services/SETTINGS.md", import.meta.url), settingsPage());
