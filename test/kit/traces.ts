/**
 * What this test process has made on the machine. Parts of the kit that make something whose name is known on the whole machine
 * note it here, and the leak check looks for all of it: other tests, and whoever else works on the machine, do not disturb it.
 */
export interface Traces {
  /** Directories of tests and daemons, by absolute path. */
  readonly directories: Set<string>;
  /** Namespaces of containerd, which name cgroups and state of runc. */
  readonly namespaces: Set<string>;
  /** Places of shim sockets that may have been used. */
  readonly sockets: Set<string>;
}

/** The traces of this process. */
export const traces: Traces = { directories: new Set(), namespaces: new Set(), sockets: new Set() };
