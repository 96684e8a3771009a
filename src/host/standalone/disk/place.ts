/**
 * Where this host keeps what guests' configurations name. A configuration travels with its guest; the folders that
 * its disks are in may be others on each host.
 */

/** By folder as configurations name it: the folder that it is here. */
export type ImageFolders = Readonly<Record<string, string>>;

/** The path here of `target`, by the longest folder that it is in; itself where none is mapped. */
export function placeOf(target: string, folders: ImageFolders): string {
  let best: string | undefined;
  for (const folder of Object.keys(folders)) {
    if (target.startsWith(`${folder}/`) && folder.length > (best?.length ?? -1)) best = folder;
  }
  return best === undefined ? target : folders[best] + target.slice(best.length);
}
