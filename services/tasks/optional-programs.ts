import { mkdir } from "node:fs/promises";
import { delimiter } from "node:path";

/**
 * Lets what is started from now on find the programs and libraries below a directory before all others. The directories are made if they are not
 * there.
 *
 * @param path - Such as `/opt/containerd`, with `bin` and `lib` in it.
 * @param environment - Changed: `PATH` and `LD_LIBRARY_PATH`.
 * @throws The system's error when they can't be made.
 * @source containerd v2.3.4 plugins/services/opt/service.go
 */
export async function offerOptionalPrograms(
  path: string,
  environment: NodeJS.ProcessEnv,
): Promise<{ readonly path: string }> {
  for (const [folder, variable] of [
    ["bin", "PATH"],
    ["lib", "LD_LIBRARY_PATH"],
  ] as const) {
    const directory = `${path}/${folder}`;
    await mkdir(directory, { recursive: true, mode: 0o711 });
    environment[variable] = `${directory}${delimiter}${environment[variable] ?? ""}`;
  }
  return { path };
}
