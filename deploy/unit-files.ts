import type { ProcessName } from "#fleet/process-name.ts";
import { type ProcessRights, rights } from "#fleet/rights.ts";
import { onDemandProcesses, startups } from "#fleet/startup.ts";
import { fleetGroup } from "#fleet/users.ts";

/** Where things are on the machine that the units are for. */
export interface UnitPlaces {
  /** Directory that has `deploy/flotilla`. */
  readonly program: string;
  readonly root: string;
  readonly state: string;
}

type Section = readonly (readonly [key: string, value: string])[];

const target = "flotilla.target";
const prepare = "flotilla-prepare.service";
/** Without a sign of life for so long a process is killed and started again. */
const watchdogSeconds = 60;
/** After how long without a call a process on demand ends. */
const idleMs = 300_000;

/** The name of the unit of a process. */
function serviceOf(name: ProcessName): string {
  return `flotilla-${name}.service`;
}

/**
 * The units that run each process of the fleet by itself, by file name: what they may do is what the table of rights says.
 *
 * Processes that mount, or start what becomes a container, stay in the mount namespace of the machine, so that nothing that would give them another is said
 * of them.
 */
export function unitFiles(places: UnitPlaces): Map<string, string> {
  const files = new Map<string, string>();
  const names = Object.keys(rights) as ProcessName[];
  files.set(
    target,
    format([
      ["Unit", targetUnit(names)],
      ["Install", [["WantedBy", "multi-user.target"]]],
    ]),
  );
  files.set(
    prepare,
    format([
      ["Unit", unitOf("directories of all processes", [])],
      ["Service", prepareService(places)],
    ]),
  );
  for (const name of names) {
    const unit = unitOf(name, [prepare, ...startups[name].after.map(serviceOf)]);
    const sockets: Section = hasSocket(name)
      ? [
          ["Requires", socketOf(name)],
          ["After", socketOf(name)],
        ]
      : [];
    const wanted: Section = onDemandProcesses.has(name) ? [] : [["WantedBy", target]];
    files.set(
      serviceOf(name),
      format([
        ["Unit", [...unit, ["Requires", prepare], ...sockets, ["StartLimitIntervalSec", "0"]]],
        ["Service", processService(name, places)],
        ["Install", wanted],
      ]),
    );
    if (hasSocket(name)) {
      files.set(
        socketOf(name),
        format([
          ["Unit", socketUnit(name)],
          ["Socket", socketSection(name, places)],
          ["Install", [["WantedBy", target]]],
        ]),
      );
    }
  }
  return files;
}

/** The gateway's sockets stay open while it is started again; a process on demand is started by them. */
function hasSocket(name: ProcessName): boolean {
  return name === "gateway" || onDemandProcesses.has(name);
}

function socketOf(name: ProcessName): string {
  return `flotilla-${name}.socket`;
}

function targetUnit(names: readonly ProcessName[]): Section {
  const units = names.flatMap((name) => (onDemandProcesses.has(name) ? [socketOf(name)] : [serviceOf(name)]));
  return [
    ["Description", "Flotilla container daemon, each process as a unit of its own"],
    ["Documentation", "man:flotilla(8)"],
    ["Conflicts", "flotilla.service containerd.service"],
    ...units.map((unit) => ["Wants", unit] as const),
  ];
}

function unitOf(what: string, after: readonly string[]): Section {
  return [
    ["Description", `Flotilla: ${what}`],
    ["Documentation", "man:flotilla(8)"],
    ["PartOf", target],
    ...(after.length === 0 ? [] : [["After", after.join(" ")] as const]),
  ];
}

function prepareService({ program, root, state }: UnitPlaces): Section {
  return [
    ["Type", "oneshot"],
    ["RemainAfterExit", "yes"],
    ["Environment", "FLOTILLA_USERS=by-name"],
    ["ExecStartPre", "-/sbin/modprobe overlay"],
    ["ExecStart", `${program}/deploy/flotilla --root ${root} --state ${state} prepare`],
    ["UMask", "0022"],
    ["NoNewPrivileges", "yes"],
    ["CapabilityBoundingSet", "CAP_CHOWN CAP_DAC_OVERRIDE CAP_FOWNER CAP_SYS_ADMIN CAP_SYS_MODULE"],
    ["RestrictAddressFamilies", "AF_UNIX"],
    ["SystemCallArchitectures", "native"],
  ];
}

function processService(name: ProcessName, places: UnitPlaces): Section {
  const { program, root, state } = places;
  const command = name === "gateway" ? "flotilla" : `flotilla-member ${name}`;
  const isOnDemand = onDemandProcesses.has(name);
  return [
    ["Type", "notify"],
    ["NotifyAccess", "main"],
    ["Environment", "FLOTILLA_USERS=by-name"],
    ...(name === "gateway" ? ([["Environment", "FLOTILLA_UNITS=1"]] as const) : []),
    ...(isOnDemand ? ([["Environment", `FLOTILLA_IDLE_MS=${idleMs}`]] as const) : []),
    // What Node.js has compiled is kept where this process alone can write, since who can change it can do what its reader can.
    ["CacheDirectory", `flotilla/${name}`],
    ["CacheDirectoryMode", "0700"],
    ["Environment", `NODE_COMPILE_CACHE=/var/cache/flotilla/${name}`],
    // What the configuration disables is skipped, and not failed.
    ...(startups[name].unlessDisabled === undefined
      ? []
      : ([["ExecCondition", `${program}/deploy/flotilla enabled ${name}`]] as const)),
    ["ExecStart", `${program}/deploy/${command} --root ${root} --state ${state}`],
    // The gateway has the others read their configuration again.
    ...(name === "gateway" ? ([["ExecReload", "/bin/kill -HUP $MAINPID"]] as const) : []),
    ["Restart", isOnDemand ? "on-failure" : "always"],
    ["RestartSec", "100ms"],
    ["TimeoutStartSec", "90s"],
    ["TimeoutStopSec", name === "gateway" ? "90s" : "20s"],
    ["WatchdogSec", `${watchdogSeconds}s`],
    ["OOMScoreAdjust", "-999"],
    ["LimitNOFILE", "1048576"],
    ...confinementOf(name, places),
  ];
}

function confinementOf(name: ProcessName, places: UnitPlaces): Section {
  const own = rights[name];
  if (own.capabilities === "all") {
    return [
      // Containers and their shims live on when the process stops, in its cgroup.
      ["KillMode", "process"],
      ["Delegate", "yes"],
      ["TasksMax", "infinity"],
      ["LimitNPROC", "infinity"],
      ["LimitCORE", "infinity"],
    ];
  }
  return [
    ...(own.user === "root"
      ? []
      : ([
          ["User", own.user],
          ["Group", fleetGroup],
        ] as const)),
    ["CapabilityBoundingSet", own.capabilities.join(" ")],
    ["AmbientCapabilities", ""],
    ["NoNewPrivileges", "yes"],
    ["LockPersonality", "yes"],
    ["KeyringMode", "private"],
    ["RestrictRealtime", "yes"],
    ["RestrictNamespaces", "yes"],
    ["SystemCallArchitectures", "native"],
    ["RestrictAddressFamilies", own.network ? "AF_UNIX AF_INET AF_INET6 AF_NETLINK" : "AF_UNIX"],
    ...(own.user === "root" && own.capabilities.includes("CAP_SYS_ADMIN") ? [] : privateView(name, own, places)),
  ];
}

/** What gives a process a view of its own of the machine. */
function privateView(name: ProcessName, own: ProcessRights, { root, state }: UnitPlaces): Section {
  const place = (path: string): string => path.replace("<root>", root).replace("<state>", state);
  const writes = [`${state}/${name}`, ...own.writes.map(place)].filter((path) => path !== state || name === "gateway");
  return [
    ["ProtectSystem", "strict"],
    ["ReadWritePaths", writes.join(" ")],
    ["ProtectHome", "yes"],
    ["PrivateTmp", "yes"],
    ["PrivateDevices", "yes"],
    ["DevicePolicy", "closed"],
    ["ProtectKernelTunables", "yes"],
    ["ProtectKernelModules", "yes"],
    ["ProtectKernelLogs", "yes"],
    ["ProtectControlGroups", "yes"],
    ["ProtectClock", "yes"],
    ["ProtectHostname", "yes"],
    ["ProtectProc", "invisible"],
    ["RestrictSUIDSGID", "yes"],
    ["RemoveIPC", "yes"],
    ["SystemCallFilter", "@system-service"],
    ["SystemCallFilter", own.user === "root" ? "~@resources" : "~@privileged @resources"],
    // Sockets are given to the group, and setpriv(1) starts what is a child: to no more than the kernel allows anybody.
    // A process gives up further calls by itself.
    ["SystemCallFilter", "@chown capset seccomp"],
    ["SystemCallErrorNumber", "EPERM"],
    ...(own.network
      ? []
      : ([
          ["PrivateNetwork", "yes"],
          ["IPAddressDeny", "any"],
        ] as const)),
    ...(name === "events"
      ? ([
          ["IPAddressDeny", "any"],
          ["IPAddressAllow", "localhost"],
        ] as const)
      : []),
  ];
}

function socketUnit(name: ProcessName): Section {
  return [
    ["Description", `Flotilla: sockets of ${name}`],
    ["PartOf", target],
    ...(name === "gateway"
      ? []
      : // The directory of the sockets is made before, by a unit that is itself started after the sockets of the machine.
        ([
          ["DefaultDependencies", "no"],
          ["Requires", prepare],
          ["After", prepare],
          ["Conflicts", "shutdown.target"],
          ["Before", "shutdown.target"],
        ] as const)),
  ];
}

function socketSection(name: ProcessName, { state }: UnitPlaces): Section {
  const { user } = rights[name];
  if (name === "gateway") {
    return [
      ["ListenStream", `${state}/containerd.sock`],
      ["ListenStream", `${state}/containerd.sock.ttrpc`],
      ["SocketMode", "0660"],
      ["DirectoryMode", "0711"],
      // While the daemon cannot start clients wait, and are not turned away for good.
      ["TriggerLimitIntervalSec", "0"],
    ];
  }
  return [
    ["ListenStream", `${state}/${name}/public.sock`],
    ["ListenStream", `${state}/${name}/private.sock`],
    ["SocketUser", user],
    ["SocketGroup", fleetGroup],
    ["SocketMode", "0660"],
    ["DirectoryMode", "0711"],
    ["TriggerLimitIntervalSec", "0"],
  ];
}

function format(sections: readonly (readonly [name: string, section: Section])[]): string {
  const written = sections
    .filter(([, section]) => section.length > 0)
    .map(([name, section]) => `[${name}]\n${section.map(([key, value]) => `${key}=${value}\n`).join("")}`);
  return `# Made by deploy/units.ts from the tables in shared/fleet.\n${written.join("\n")}`;
}
