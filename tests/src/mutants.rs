//! Records that nothing of ours has written: the shapes that are right, with foreign values in them.

/// Gives every shape with each of the values in its column, and with each of them beside `partners` values
/// of every later column. `values` are those of each column.
///
/// The same arguments give the same records in the same order. The values of a pair are chosen so that, over
/// the pairs, all meet all.
#[must_use]
pub fn mutants<V: Copy, const N: usize>(
    shapes: &[[V; N]],
    values: [&[V]; N],
    partners: usize,
) -> Vec<[V; N]> {
    let mut mutants = Vec::new();
    for shape in shapes {
        for column in 0..N {
            for (number, value) in values[column].iter().enumerate() {
                let mut mutant = *shape;
                mutant[column] = *value;
                mutants.push(mutant);
                for other in column + 1..N {
                    for step in 0..partners.min(values[other].len()) {
                        let mut mutant = mutant;
                        mutant[other] =
                            values[other][(number * partners + step) % values[other].len()];
                        mutants.push(mutant);
                    }
                }
            }
        }
    }
    mutants
}

#[cfg(test)]
mod tests {
    use super::mutants;

    #[test]
    fn each_value_stands_alone_and_beside_others() {
        let mutants = mutants(&[["a", "b"]], [&["x", "y"], &["x", "y", "z"]], 2);
        for expected in [["x", "b"], ["y", "b"], ["a", "z"], ["x", "x"], ["x", "y"], ["y", "z"]] {
            assert!(mutants.contains(&expected), "{expected:?}");
        }
        assert_eq!(mutants.len(), 2 + 3 + 4);
    }
}
