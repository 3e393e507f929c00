import { readPseudoFile } from "./pseudo-file.ts";

/** What has passed through a network device. */
export interface InterfaceFigures {
  readonly name: string;
  readonly receivedBytes: bigint;
  readonly receivedPackets: bigint;
  readonly receiveErrors: bigint;
  readonly receiveDropped: bigint;
  readonly sentBytes: bigint;
  readonly sentPackets: bigint;
  readonly sendErrors: bigint;
  readonly sendDropped: bigint;
}

/** The devices in the network namespace of a process, but the loopback device; none for a process that has ended. */
export function readInterfaces(pid: number): InterfaceFigures[] {
  return pid === 0 ? [] : parseInterfaces(readPseudoFile(`/proc/${pid}/net/dev`) ?? "");
}

/** Parses a table of network devices. @source proc_pid_net(5), /proc/net/dev */
export function parseInterfaces(text: string): InterfaceFigures[] {
  return text.split("\n").flatMap((line) => {
    const [, name = "", rest = ""] = /^\s*([^\s:]+):\s*(.*)$/.exec(line) ?? [];
    const figures = rest.trim().split(/\s+/);
    if (name === "" || name === "lo" || figures.length < 12) {
      return [];
    }
    const figure = (index: number): bigint => BigInt(figures[index] ?? 0);
    return [
      {
        name,
        receivedBytes: figure(0),
        receivedPackets: figure(1),
        receiveErrors: figure(2),
        receiveDropped: figure(3),
        sentBytes: figure(8),
        sentPackets: figure(9),
        sendErrors: figure(10),
        sendDropped: figure(11),
      },
    ];
  });
}

/** The device that the kubelet looks at: eth0, or the first. */
export function defaultInterface(interfaces: readonly InterfaceFigures[]): InterfaceFigures | undefined {
  return interfaces.find(({ name }) => name === "eth0") ?? interfaces[0];
}
