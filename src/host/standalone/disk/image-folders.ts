/**
 * Where this host keeps the files that guests' configurations name. A configuration moves with its guest, but the
 * folders of its disks may be different on each host.
 */

/** Maps a folder named in configurations to the folder on this host. */
export type ImageFolders = Readonly<Record<string, string>>;

/** The longest folder in `folders` that contains `target`, or undefined if none does. */
export function folderOf(target: string, folders: ImageFolders): string | undefined {
  let best: string | undefined;
  for (const folder of Object.keys(folders)) {
    if (target.startsWith(`${folder}/`) && folder.length > (best?.length ?? -1)) best = folder;
  }
  return best;
}

/**
 * The path of `target` on this host. It is `target` itself if its folder is not mapped. A single file may be mapped
 * too.
 */
export function placeOf(target: string, folders: ImageFolders): string {
  if (Object.hasOwn(folders, target)) return folders[target];
  const folder = folderOf(target, folders);
  return folder === undefined ? target : folders[folder] + target.slice(folder.length);
}
