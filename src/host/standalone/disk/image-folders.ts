/**
 * Where this host keeps what guests' configurations name. A configuration travels with its guest; the folders that
 * its disks are in may be others on each host.
 */

/** By folder as configurations name it: the folder that it is here. */
export type ImageFolders = Readonly<Record<string, string>>;

/** The folder of a configuration's that `target` is in, the longest there is; undefined where it is in none. */
export function folderOf(target: string, folders: ImageFolders): string | undefined {
  let best: string | undefined;
  for (const folder of Object.keys(folders)) {
    if (target.startsWith(`${folder}/`) && folder.length > (best?.length ?? -1)) best = folder;
  }
  return best;
}

/** The path here of `target`: itself where its folder is not mapped. A single file may be mapped too. */
export function placeOf(target: string, folders: ImageFolders): string {
  if (Object.hasOwn(folders, target)) return folders[target];
  const folder = folderOf(target, folders);
  return folder === undefined ? target : folders[folder] + target.slice(folder.length);
}
