use super::*;

#[test]
fn what_is_said_of_a_view_counts_for_the_turns_of_the_image() {
    // An image that lies turned by one quarter: shown with three more it is upright.
    let mut said = [0.0; 16];
    for (shown, rotation) in [(0, 1), (1, 2), (2, 3), (3, 0)] {
        said[shown * ROTATIONS + rotation] = 1.0;
    }
    let matrix = views();
    let own: Vec<f32> = (0..ROTATIONS)
        .map(|own| said.iter().enumerate().map(|(row, value)| value * matrix[row * ROTATIONS + own]).sum())
        .collect();
    assert_eq!(own, [0.0, 1.0, 0.0, 0.0]);
}

#[test]
fn results_are_numbered_by_operator_and_constants_stand_once() {
    let mut graph = Graph::default();
    let input = graph.input("x", Kind::Float, &[2]);
    let [one, again] = [0; 2].map(|_| graph.integers(&[1]));
    assert_eq!(one, again);
    let names = [0; 2].map(|_| graph.node("Relu", &[&input], &[]));
    assert_eq!(names, ["relu_0", "relu_1"]);
    graph.output("y", &names[1], &[2]);
    let model = graph.into_model("test", "1", &[("key", "value".into())]);
    let count = |text: &str| model.windows(text.len()).filter(|window| *window == text.as_bytes()).count();
    assert_eq!(count("integers_1"), 1);
    // Version of the format, then the producer; at the end the metadata.
    assert_eq!(model[..10], [0x08, 7, 0x12, 6, b'r', b'o', b't', b'n', b'e', b't']);
    assert_eq!(model[model.len() - 14..], *b"\x72\x0c\x0a\x03key\x12\x05value");
}
