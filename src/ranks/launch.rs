//! Whether a launcher started this process as one of several, by the variables that it sets.

/// Open MPI's `mpirun`; MPICH's and Intel's; Slurm's `srun`.
const VARIABLES: [[&str; 2]; 3] = [
    ["OMPI_COMM_WORLD_SIZE", "OMPI_COMM_WORLD_RANK"],
    ["PMI_SIZE", "PMI_RANK"],
    ["SLURM_STEP_NUM_TASKS", "SLURM_PROCID"],
];

/// Which of how many processes this is: 0 of 1 without a launcher.
pub fn launched() -> [usize; 2] {
    launched_by(|name| std::env::var(name).ok())
}

fn launched_by(variable: impl Fn(&str) -> Option<String>) -> [usize; 2] {
    let number = |name: &str| variable(name)?.trim().parse::<usize>().ok();
    let of = |[size, rank]: &[&str; 2]| Some([number(rank)?, number(size)?]);
    VARIABLES.iter().find_map(of).unwrap_or([0, 1])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn launchers_say_which_of_how_many_a_process_is() {
        let by = |set: &[(&str, &str)]| {
            launched_by(|name| {
                set.iter().find(|(variable, _)| *variable == name).map(|(_, value)| (*value).to_owned())
            })
        };
        assert_eq!(by(&[]), [0, 1]);
        assert_eq!(by(&[("OMPI_COMM_WORLD_SIZE", "4"), ("OMPI_COMM_WORLD_RANK", "3")]), [3, 4]);
        assert_eq!(by(&[("PMI_SIZE", "2"), ("PMI_RANK", "0")]), [0, 2]);
        assert_eq!(by(&[("SLURM_STEP_NUM_TASKS", "8"), ("SLURM_PROCID", "7")]), [7, 8]);
        // A batch script of several tasks, before `srun` starts them.
        assert_eq!(by(&[("SLURM_NTASKS", "8"), ("SLURM_PROCID", "0")]), [0, 1]);
    }
}
