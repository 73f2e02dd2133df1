"""What every card says of the films, the intended use and the limits."""

SOURCE = {
    "title": "Labeled Optical Coherence Tomography (OCT) and Chest X-Ray Images for Classification",
    "authors": "Kermany, Zhang, Goldbaum",
    "doi": "10.17632/rscbjbr9sj",
    "licence": "CC BY 4.0",
    "films": "frontal chest films of children aged 1 to 5, Guangzhou Women and Children's Medical Center",
}
INTENDED_USE = (
    "An aid for a clinician who reads frontal chest films of children aged 1 to 5. It replaces no reader and gives no "
    "advice to patients."
)
# What `dataset.patient_key` does
PATIENTS = (
    "Who is one child is taken from the file names, whose numbers are held to begin anew for bacteria, for viruses and "
    "for NORMAL2; aetiology is the file name's, too. Age and sex of a child are not told."
)
LIMITS = [
    "Not a medical device: approved or certified nowhere and not tried in clinical use. It is for research, and for "
    "evaluation on one's own films.",
    "Trained on children aged 1 to 5 of one hospital; on adults or films of other hospitals its answers are unproven.",
    "Films of low quality were taken out of the data set before its films were labelled: nothing is known of such.",
    "In this data set the two classes were acquired differently (sharpness, border); part of any score measured on it "
    "may come from that, not from the lungs.",
    "The probability, and what follows from it, holds where as many films show a pneumonia as here. Where fewer do it "
    "is too high, and more of the films that are called PNEUMONIA are normal.",
    "It knows two labels. Other diseases, devices, and lateral films are not recognised.",
    "The heat map shows regions that raised the probability, not where a pneumonia is.",
]
