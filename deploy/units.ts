import { mkdirSync, writeFileSync } from "node:fs";
import { unitFiles } from "./unit-files.ts";

/**
 * Writes the units that run each process of the fleet by itself.
 *
 *   node deploy/units.ts [DIRECTORY [PROGRAM]]     into deploy/systemd/fleet, for the repository in /opt/flotilla, unless said otherwise
 */
const [directory = "deploy/systemd/fleet", program = "/opt/flotilla"] = process.argv.slice(2);
mkdirSync(directory, { recursive: true });
for (const [name, text] of unitFiles({ program, root: "/var/lib/containerd", state: "/run/containerd" })) {
  writeFileSync(`${directory}/${name}`, text);
}
