/**
 * Where a container's cgroup is: below its pod's by path, or as `slice:prefix:name` where systemd makes it.
 *
 * @source containerd v2.3.4 internal/cri/server/helpers.go `getCgroupsPath`
 */
export function cgroupsPath(parent: string, id: string): string {
  const base =
    parent
      .split("/")
      .filter((part) => part !== "")
      .at(-1) ?? "";
  return base.endsWith(".slice") ? `${base}:cri-containerd:${id}` : cleanPath(`${parent}/${id}`);
}

/**
 * A path without empty and `.` parts and with `..` resolved as far as it goes.
 *
 * @source Go path `Clean`
 */
export function cleanPath(path: string): string {
  const isAbsolute = path.startsWith("/");
  const parts: string[] = [];
  for (const part of path.split("/")) {
    if (part === "" || part === ".") {
      continue;
    }
    if (part !== "..") {
      parts.push(part);
    } else if (parts.length > 0 && parts.at(-1) !== "..") {
      parts.pop();
    } else if (!isAbsolute) {
      parts.push(part);
    }
  }
  return `${isAbsolute ? "/" : ""}${parts.join("/")}` || ".";
}
