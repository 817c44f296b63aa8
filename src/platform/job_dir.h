/* job_dir.h - for the files of jobs alone. */
#pragma once

/* A directory with all that is in it, never following a link. What cannot be removed stays. */
void bm_job_remove_tree(const char *path);
